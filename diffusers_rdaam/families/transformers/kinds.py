"""The table of transformer architectures: an entry makes one recordable.

A new line needs a look at the model's source: which modules attend to text, in which order text and
image lie among their keys, and from which argument the image's grid is known.
"""

from __future__ import annotations

from diffusers_rdaam.families.transformers.kind import Sites, TransformerKind
from diffusers_rdaam.families.transformers.readers import (
    cross,
    image_first,
    image_shapes_grid,
    latent_grid,
    position_id_grid,
    text_first,
    text_first_masked,
    unless,
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
    ),
    TransformerKind(
        "flux2",
        ("Flux2Transformer2DModel",),
        _DOUBLE_AND_SINGLE,
        text_first(position_id_grid),
        cell=2,
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
        "sd3",
        ("SD3Transformer2DModel",),
        (Sites(r"transformer_blocks\.\d+\.attn"),),
        # Skip-layer guidance calls once more with layers left out, for no prompt.
        unless("skip_layers", image_first(latent_grid)),
    ),
    TransformerKind(
        "pixart",
        ("PixArtTransformer2DModel",),
        _CROSS,
        cross(latent_grid),
        self_attention=_ITSELF,
    ),
)
