"""The table of transformer architectures: an entry makes one recordable.

A new line needs a look at the model's source: which modules attend to text, in which order text and
image lie among their keys, and from which argument the image's grid is known.
"""

from __future__ import annotations

from diffusers_rdaam.families.transformers.concepts import FLUX, FLUX2, QWEN_IMAGE, SD3
from diffusers_rdaam.families.transformers.kind import Sites, TransformerKind
from diffusers_rdaam.families.transformers.readers import (
    cross,
    image_before_two_texts,
    image_first,
    image_shapes_grid,
    latent_grid,
    padded_image_before_three_texts,
    position_id_grid,
    text_first,
    text_first_masked,
    unless,
)
from diffusers_rdaam.families.transformers.sequence_readers import (
    allegro,
    bria_fibo,
    bria_fibo2,
    easyanimate,
    ernie,
    frames_first_grid,
    hunyuan_dit,
    hunyuan_video15,
    ideogram4,
    kandinsky5,
    ltx,
    ltx2,
    lumina2,
    mochi,
    nucleus,
    omnigen,
    picture_grid,
    position_axes_grid,
    prx,
    wan_animate,
    z_image,
)

_DOUBLE_AND_SINGLE = (
    Sites(r"transformer_blocks\.\d+\.attn", stream="double"),
    Sites(r"single_transformer_blocks\.\d+\.attn", stream="single"),
)
_CROSS = (Sites(r"transformer_blocks\.\d+\.attn2", kind="cross"),)
_ITSELF = (Sites(r"transformer_blocks\.\d+\.attn1", kind="self"),)

KINDS: tuple[TransformerKind, ...] = (
    TransformerKind(
        "flux",
        ("FluxTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
        concepts=FLUX,
    ),
    TransformerKind(
        "flux2",
        ("Flux2Transformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
        concepts=FLUX2,
    ),
    TransformerKind(
        "chroma",
        ("ChromaTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
    ),
    TransformerKind(
        "bria",
        ("BriaTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        # Its pipeline counts the cells of two by two latents as a level of the autoencoder.
        cell=1,
    ),
    TransformerKind(
        "qwen_image",
        ("QwenImageTransformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        text_first_masked(image_shapes_grid),
        cell=2,
        concepts=QWEN_IMAGE,
    ),
    TransformerKind(
        "auraflow",
        ("AuraFlowTransformer2DModel",),
        (
            Sites(r"joint_transformer_blocks\.\d+\.attn", stream="double"),
            Sites(r"single_transformer_blocks\.\d+\.attn", stream="single"),
        ),
        # Eight learned positions come before the text.
        text_first(latent_grid, skip=8),
    ),
    TransformerKind(
        "cogview3",
        ("CogView3PlusTransformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn1"),),
        text_first(latent_grid),
    ),
    TransformerKind(
        "cogview4",
        ("CogView4Transformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn1"),),
        text_first(latent_grid),
    ),
    TransformerKind(
        "ovis",
        ("OvisImageTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
    ),
    TransformerKind(
        "longcat",
        ("LongCatImageTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
    ),
    TransformerKind(
        "hunyuan_image",
        ("HunyuanImageTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        image_before_two_texts,
    ),
    TransformerKind(
        "hidream",
        ("HiDreamImageTransformer2DModel",),
        (
            Sites(r"double_stream_blocks\.\d+\.block\.attn1", stream="double"),
            Sites(r"single_stream_blocks\.\d+\.block\.attn1", stream="single"),
        ),
        padded_image_before_three_texts,
    ),
    TransformerKind(
        "sd3",
        ("SD3Transformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        # Skip-layer guidance calls once more with layers left out, for no prompt.
        unless("skip_layers", image_first(latent_grid)),
        concepts=SD3,
    ),
    TransformerKind(
        "pixart",
        ("PixArtTransformer2DModel",),
        _CROSS,
        cross(latent_grid),
        self_attention=_ITSELF,
    ),
    TransformerKind(
        "z_image",
        ("ZImageTransformer2DModel",),
        (Sites(r"layers\.\d+\.attention"),),
        z_image,
        cell=2,
    ),
    TransformerKind(
        "sana",
        ("SanaTransformer2DModel", "SanaVideoTransformer3DModel"),
        _CROSS,
        cross(latent_grid),
    ),
    TransformerKind(
        "lumina2",
        ("Lumina2Transformer2DModel",),
        (Sites(r"layers\.\d+\.attn"),),
        lumina2,
    ),
    TransformerKind(
        "lumina",
        ("LuminaNextDiT2DModel",),
        (Sites(r"layers\.\d+\.attn2", kind="cross"),),
        cross(latent_grid),
        self_attention=(Sites(r"layers\.\d+\.attn1", kind="self"),),
    ),
    TransformerKind(
        "hunyuan_dit",
        ("HunyuanDiT2DModel",),
        (Sites(r"blocks\.\d+\.attn2", kind="cross"),),
        hunyuan_dit,
        self_attention=(Sites(r"blocks\.\d+\.attn1", kind="self"),),
    ),
    TransformerKind(
        "wan",
        (
            "WanTransformer3DModel",
            "WanVACETransformer3DModel",
            "SkyReelsV2Transformer3DModel",
            "ChronoEditTransformer3DModel",
        ),
        # The first attention call of the code is that of a picture's states.
        (Sites(r"blocks\.\d+\.attn2", kind="cross", attention_call=1),),
        cross(latent_grid),
        self_attention=(Sites(r"blocks\.\d+\.attn1", kind="self", attention_call=1),),
    ),
    TransformerKind(
        "wan_animate",
        ("WanAnimateTransformer3DModel",),
        (Sites(r"blocks\.\d+\.attn2", kind="cross", attention_call=1),),
        wan_animate,
        tokens="wan",
        self_attention=(Sites(r"blocks\.\d+\.attn1", kind="self", attention_call=1),),
    ),
    TransformerKind(
        "ltx",
        ("LTXVideoTransformer3DModel",),
        _CROSS,
        ltx,
        self_attention=_ITSELF,
    ),
    TransformerKind(
        "ltx2",
        ("LTX2VideoTransformer3DModel",),
        _CROSS,
        ltx2,
        self_attention=_ITSELF,
    ),
    TransformerKind(
        "cogvideox",
        ("CogVideoXTransformer3DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn1"),),
        text_first(frames_first_grid),
    ),
    TransformerKind(
        "hunyuan_video",
        ("HunyuanVideoTransformer3DModel",),
        _DOUBLE_AND_SINGLE,
        image_first(latent_grid),
    ),
    TransformerKind(
        "easyanimate",
        ("EasyAnimateTransformer3DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn1"),),
        easyanimate,
    ),
    TransformerKind(
        "mochi",
        ("MochiTransformer3DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn1"),),
        mochi,
    ),
    TransformerKind(
        "allegro",
        ("AllegroTransformer3DModel",),
        _CROSS,
        allegro,
        self_attention=_ITSELF,
    ),
    TransformerKind(
        "cosmos2",
        ("CosmosTransformer3DModel",),
        _CROSS,
        cross(picture_grid),
        self_attention=_ITSELF,
    ),
    TransformerKind(
        "kandinsky5",
        ("Kandinsky5Transformer3DModel",),
        (Sites(r"visual_transformer_blocks\.\d+\.cross_attention", kind="cross"),),
        kandinsky5,
        self_attention=(Sites(r"visual_transformer_blocks\.\d+\.self_attention", kind="self"),),
    ),
    TransformerKind(
        "omnigen",
        ("OmniGenTransformer2DModel",),
        (Sites(r"layers\.\d+\.self_attn"),),
        omnigen,
    ),
    TransformerKind(
        "krea2",
        ("Krea2Transformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        text_first(position_axes_grid),
        cell=2,
    ),
    TransformerKind(
        "prx",
        ("PRXTransformer2DModel",),
        (Sites(r"blocks\.\d+\.attention"),),
        prx,
    ),
    TransformerKind(
        "ernie",
        ("ErnieImageTransformer2DModel",),
        (Sites(r"layers\.\d+\.self_attention"),),
        ernie,
    ),
    TransformerKind(
        "bria_fibo",
        ("BriaFiboTransformer2DModel",),
        _DOUBLE_AND_SINGLE,
        bria_fibo,
        cell=1,
    ),
    TransformerKind(
        "nucleus",
        ("NucleusMoEImageTransformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        nucleus,
        cell=2,
    ),
    TransformerKind(
        "hunyuan_video15",
        ("HunyuanVideo15Transformer3DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        hunyuan_video15,
    ),
    TransformerKind(
        "ideogram4",
        ("Ideogram4Transformer2DModel",),
        (Sites(r"layers\.\d+\.attention"),),
        ideogram4,
        cell=2,
    ),
    TransformerKind(
        "bria_fibo2",
        ("BriaFibo2Transformer2DModel",),
        (Sites(r"layers\.\d+\.cross_attention", kind="cross"),),
        bria_fibo2,
    ),
)
