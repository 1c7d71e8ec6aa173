"""The table of transformer pipelines: the rows of their calls, and the rule for their tokens.

A new line needs a look at the pipeline's source: which rows does it give the denoiser, in which
order, and when?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from diffusers_rdaam.families.layouts import (
    CONDITIONAL_FIRST,
    CONDITIONAL_FIRST_BY_ARGUMENT,
    GUIDED,
    GUIDED_BY_ARGUMENT,
    GUIDED_BY_SCALE,
    PAG_BY_ARGUMENT,
    PAG_LAYOUT,
    UNGUIDED,
)
from diffusers_rdaam.families.rows import (
    Branch,
    CountedRowsLayout,
    CustomLayout,
    Parts,
    RowLayout,
    SeparateCallsLayout,
)
from diffusers_rdaam.families.transformers.texts_as_pictures import bria_fibo2_drawn_texts
from diffusers_rdaam.families.transformers.videos_in_parts import (
    MismatchRule,
    skyreels_parts,
    wan_animate_parts,
)

VideoRule = Literal["", "causal", "even"]


@dataclass(frozen=True)
class TransformerPipeline:
    """What a pipeline class says beyond its denoiser.

    Args:
        layout: which rows of a call belong to which branch of guidance.
        tokens: the rule for its tokens, where it is not its denoiser's.
        denoisers: the attributes that are denoisers; of several, each makes a part of the steps.
        video: how the autoencoder makes frames of latent frames: ``"causal"`` where the first
            latent frame is one frame and each later one several, ``"even"`` where each is several;
            empty for pipelines of images.
        mismatch: which arguments of its call make maps that are not those of its video.
    """

    layout: RowLayout | SeparateCallsLayout | CountedRowsLayout | CustomLayout
    tokens: str = ""
    denoisers: tuple[str, ...] = ("transformer",)
    video: VideoRule = ""
    mismatch: MismatchRule | None = None


def _z_image_is_guided(pipe: Any, timestep: Any) -> bool:
    """Whether Z-Image's first call is guided; ``cfg_truncation`` may say no, then for all calls."""
    limit = pipe._cfg_truncation
    cut = limit is not None and float(limit) <= 1 and float(timestep[0]) > limit
    return bool(pipe.do_classifier_free_guidance) and not cut


def _omnigen_parts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
    """OmniGen always guides; with pictures a third part has these alone."""
    parts = (Branch.CONDITIONAL, Branch.UNCONDITIONAL)
    return (*parts, "image only") if kwargs.get("input_img_latents") else parts


SEPARATE = SeparateCallsLayout()
# Wan 2.2 has a second transformer, for the steps with little noise.
_WAN = TransformerPipeline(SEPARATE, "", ("transformer", "transformer_2"), "causal")
_SKYREELS_FORCING = TransformerPipeline(SEPARATE, video="causal", mismatch=skyreels_parts)
# Dynamic guidance changes the scale that the property goes by, and not the rows.
_COGVIDEOX = TransformerPipeline(GUIDED_BY_ARGUMENT, video="causal")
_Z_IMAGE = CountedRowsLayout(CONDITIONAL_FIRST.parts, _z_image_is_guided)

# By the exact name of diffusers' class. For each the package has a class: "XPipeline" becomes
# "XRDAAMPipeline".
TRANSFORMER_PIPELINES: dict[str, TransformerPipeline] = {
    "FluxPipeline": TransformerPipeline(SEPARATE),
    "FluxImg2ImgPipeline": TransformerPipeline(SEPARATE),
    "FluxInpaintPipeline": TransformerPipeline(SEPARATE),
    "FluxFillPipeline": TransformerPipeline(SEPARATE),
    "FluxControlPipeline": TransformerPipeline(SEPARATE),
    "FluxControlImg2ImgPipeline": TransformerPipeline(SEPARATE),
    "FluxControlInpaintPipeline": TransformerPipeline(SEPARATE),
    "FluxControlNetPipeline": TransformerPipeline(SEPARATE),
    "FluxControlNetImg2ImgPipeline": TransformerPipeline(SEPARATE),
    "FluxControlNetInpaintPipeline": TransformerPipeline(SEPARATE),
    "FluxKontextPipeline": TransformerPipeline(SEPARATE),
    "FluxKontextInpaintPipeline": TransformerPipeline(SEPARATE),
    "Flux2Pipeline": TransformerPipeline(SEPARATE),
    "Flux2KleinPipeline": TransformerPipeline(SEPARATE, "flux2_klein"),
    "Flux2KleinInpaintPipeline": TransformerPipeline(SEPARATE, "flux2_klein"),
    "ChromaPipeline": TransformerPipeline(SEPARATE),
    "ChromaImg2ImgPipeline": TransformerPipeline(SEPARATE),
    "ChromaInpaintPipeline": TransformerPipeline(SEPARATE),
    "BriaPipeline": TransformerPipeline(GUIDED),
    "AuraFlowPipeline": TransformerPipeline(GUIDED_BY_ARGUMENT),
    "CogView3PlusPipeline": TransformerPipeline(GUIDED),
    "CogView4Pipeline": TransformerPipeline(SEPARATE),
    "CogView4ControlPipeline": TransformerPipeline(SEPARATE),
    "HiDreamImagePipeline": TransformerPipeline(GUIDED),
    # Of its guiders each calls first for the prompt.
    "HunyuanImagePipeline": TransformerPipeline(SEPARATE),
    "OvisImagePipeline": TransformerPipeline(SEPARATE),
    "LongCatImagePipeline": TransformerPipeline(SEPARATE),
    "LongCatImageEditPipeline": TransformerPipeline(SEPARATE, "longcat_edit"),
    "QwenImagePipeline": TransformerPipeline(SEPARATE),
    "QwenImageImg2ImgPipeline": TransformerPipeline(SEPARATE),
    "QwenImageInpaintPipeline": TransformerPipeline(SEPARATE),
    "QwenImageControlNetPipeline": TransformerPipeline(SEPARATE),
    "QwenImageControlNetInpaintPipeline": TransformerPipeline(SEPARATE),
    "QwenImageEditPipeline": TransformerPipeline(SEPARATE, "qwen_image_edit"),
    "QwenImageEditInpaintPipeline": TransformerPipeline(SEPARATE, "qwen_image_edit"),
    "QwenImageEditPlusPipeline": TransformerPipeline(SEPARATE, "qwen_image_edit_plus"),
    "StableDiffusion3Pipeline": TransformerPipeline(GUIDED),
    "StableDiffusion3Img2ImgPipeline": TransformerPipeline(GUIDED),
    "StableDiffusion3InpaintPipeline": TransformerPipeline(GUIDED),
    "StableDiffusion3ControlNetPipeline": TransformerPipeline(GUIDED),
    "StableDiffusion3ControlNetInpaintingPipeline": TransformerPipeline(GUIDED),
    "StableDiffusion3PAGPipeline": TransformerPipeline(PAG_LAYOUT),
    "StableDiffusion3PAGImg2ImgPipeline": TransformerPipeline(PAG_LAYOUT),
    "PixArtAlphaPipeline": TransformerPipeline(GUIDED_BY_ARGUMENT),
    "PixArtSigmaPipeline": TransformerPipeline(GUIDED_BY_ARGUMENT),
    "PixArtSigmaPAGPipeline": TransformerPipeline(PAG_BY_ARGUMENT),
    "ZImagePipeline": TransformerPipeline(_Z_IMAGE),
    "ZImageImg2ImgPipeline": TransformerPipeline(_Z_IMAGE),
    "ZImageInpaintPipeline": TransformerPipeline(_Z_IMAGE),
    "ZImageControlNetPipeline": TransformerPipeline(_Z_IMAGE),
    "ZImageControlNetInpaintPipeline": TransformerPipeline(_Z_IMAGE),
    "SanaPipeline": TransformerPipeline(GUIDED),
    "SanaPAGPipeline": TransformerPipeline(PAG_LAYOUT),
    "SanaControlNetPipeline": TransformerPipeline(GUIDED),
    "SanaVideoPipeline": TransformerPipeline(GUIDED, video="causal"),
    "SanaImageToVideoPipeline": TransformerPipeline(GUIDED, video="causal"),
    "SanaSprintPipeline": TransformerPipeline(UNGUIDED),
    "SanaSprintImg2ImgPipeline": TransformerPipeline(UNGUIDED),
    "Lumina2Pipeline": TransformerPipeline(SEPARATE),
    "LuminaPipeline": TransformerPipeline(CONDITIONAL_FIRST_BY_ARGUMENT),
    "HunyuanDiTPipeline": TransformerPipeline(GUIDED),
    "HunyuanDiTPAGPipeline": TransformerPipeline(PAG_LAYOUT),
    "HunyuanDiTControlNetPipeline": TransformerPipeline(GUIDED),
    "WanPipeline": _WAN,
    "WanImageToVideoPipeline": _WAN,
    "WanVideoToVideoPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "WanVACEPipeline": _WAN,
    "LucyEditPipeline": _WAN,
    "ChronoEditPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "WanAnimatePipeline": TransformerPipeline(SEPARATE, video="causal", mismatch=wan_animate_parts),
    "SkyReelsV2Pipeline": TransformerPipeline(SEPARATE, video="causal"),
    "SkyReelsV2ImageToVideoPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "SkyReelsV2DiffusionForcingPipeline": _SKYREELS_FORCING,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _SKYREELS_FORCING,
    "LTXPipeline": TransformerPipeline(GUIDED, video="causal"),
    "LTXConditionPipeline": TransformerPipeline(GUIDED, video="causal"),
    "LTXImageToVideoPipeline": TransformerPipeline(GUIDED, video="causal"),
    "LTX2Pipeline": TransformerPipeline(GUIDED, video="causal"),
    "LTX2ImageToVideoPipeline": TransformerPipeline(GUIDED, video="causal"),
    "LTX2ConditionPipeline": TransformerPipeline(GUIDED, video="causal"),
    "CogVideoXPipeline": _COGVIDEOX,
    "CogVideoXImageToVideoPipeline": _COGVIDEOX,
    "CogVideoXVideoToVideoPipeline": _COGVIDEOX,
    "CogVideoXFunControlPipeline": _COGVIDEOX,
    "HunyuanVideoPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "HunyuanSkyreelsImageToVideoPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "EasyAnimatePipeline": TransformerPipeline(GUIDED, video="causal"),
    "EasyAnimateInpaintPipeline": TransformerPipeline(GUIDED, video="causal"),
    "MochiPipeline": TransformerPipeline(GUIDED, video="causal"),
    "AllegroPipeline": TransformerPipeline(GUIDED_BY_ARGUMENT, video="even"),
    "Cosmos2TextToImagePipeline": TransformerPipeline(SEPARATE),
    "CosmosTextToWorldPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "CosmosVideoToWorldPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "Cosmos2VideoToWorldPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "Kandinsky5T2IPipeline": TransformerPipeline(SEPARATE),
    "Kandinsky5I2IPipeline": TransformerPipeline(SEPARATE, "kandinsky5_edit"),
    "Kandinsky5T2VPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "Kandinsky5I2VPipeline": TransformerPipeline(SEPARATE, video="causal"),
    "OmniGenPipeline": TransformerPipeline(CustomLayout(_omnigen_parts)),
    "Krea2Pipeline": TransformerPipeline(SEPARATE),
    "PRXPipeline": TransformerPipeline(GUIDED),
    "PRXPixelPipeline": TransformerPipeline(GUIDED, "prx_pixel"),
    "ErnieImagePipeline": TransformerPipeline(GUIDED),
    "BriaFiboPipeline": TransformerPipeline(GUIDED_BY_SCALE),
    "BriaFiboEditPipeline": TransformerPipeline(GUIDED_BY_SCALE),
    "NucleusMoEImagePipeline": TransformerPipeline(SEPARATE),
    "HunyuanVideo15Pipeline": TransformerPipeline(SEPARATE, video="causal"),
    "HunyuanVideo15ImageToVideoPipeline": TransformerPipeline(
        SEPARATE, "hunyuan_video15_picture", video="causal"
    ),
    # Its unconditional transformer is another one, and is given no text.
    "Ideogram4Pipeline": TransformerPipeline(UNGUIDED),
    "BriaFibo2Pipeline": TransformerPipeline(SEPARATE, mismatch=bria_fibo2_drawn_texts),
    "HunyuanVideoImageToVideoPipeline": TransformerPipeline(
        SEPARATE, "hunyuan_video_picture", video="causal"
    ),
}
