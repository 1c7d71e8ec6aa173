"""The table of transformer pipelines: the rows of their calls, and the rule for their tokens.

A new line needs a look at the pipeline's source: which rows does it give the denoiser, in which
order, and when?
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusers_rdaam.families.layouts import GUIDED, GUIDED_BY_ARGUMENT, PAG_LAYOUT
from diffusers_rdaam.families.rows import RowLayout, SeparateCallsLayout


@dataclass(frozen=True)
class TransformerPipeline:
    """What a pipeline class says beyond its denoiser.

    Args:
        layout: which rows of a call belong to which branch of guidance.
        tokens: the rule for its tokens, where it is not its denoiser's.
        denoisers: the attributes that are denoisers; of several, each makes a part of the steps.
    """

    layout: RowLayout | SeparateCallsLayout
    tokens: str = ""
    denoisers: tuple[str, ...] = ("transformer",)


SEPARATE = SeparateCallsLayout()

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
}
