"""The layout of every pipeline class that is recorded."""

from __future__ import annotations

from typing import Any

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.rows import Branch, RowLayout, TwoCallLayout


def _by_property(pipe: Any) -> bool:
    return bool(pipe.do_classifier_free_guidance)


def _from_encode_prompt(pipe: Any) -> bool:
    """What a pipeline without the property has given ``encode_prompt``, noted by the mixin."""
    guided = getattr(pipe, "_rdaam_guided", None)
    if guided is None:
        raise RecordingError(
            f"{type(pipe).__name__} did not give encode_prompt the argument "
            "do_classifier_free_guidance=, so its conditional rows are not known. Say which rows "
            "are the prompt's with record_attention(pipe, rows=…, prompt=…)."
        )
    return bool(guided)


def _by_scale_argument(pipe: Any) -> bool:
    """What a pipeline without the property and without ``encode_prompt`` goes by itself."""
    scale = (getattr(pipe, "_rdaam_arguments", None) or {}).get("guidance_scale")
    if scale is None:
        raise RecordingError(
            f"{type(pipe).__name__} was not called with a guidance_scale, so its conditional rows "
            "are not known. Say which rows are the prompt's with record_attention(pipe, rows=…, "
            "prompt=…)."
        )
    return bool(scale != 1.0)


def _by_scale(pipe: Any) -> bool:
    """What a pipeline has noted of its call, where it has no property that says it."""
    return bool(pipe.guidance_scale > 1)


CFG_ROWS = (Branch.UNCONDITIONAL, Branch.CONDITIONAL)
_TRIPLE = (Branch.CONDITIONAL, "image only", Branch.UNCONDITIONAL)
_CYCLE = ("source unconditional", Branch.UNCONDITIONAL, "source conditional", Branch.CONDITIONAL)
GUIDED = RowLayout(CFG_ROWS, _by_property)
GUIDED_BY_ARGUMENT = RowLayout(CFG_ROWS, _from_encode_prompt)
GUIDED_BY_SCALE = RowLayout(CFG_ROWS, _by_scale)
PAG_LAYOUT = RowLayout((*CFG_ROWS, Branch.PERTURBED), _by_property)
PAG_BY_ARGUMENT = RowLayout((*CFG_ROWS, Branch.PERTURBED), _from_encode_prompt)
CONDITIONAL_FIRST = RowLayout((Branch.CONDITIONAL, Branch.UNCONDITIONAL), _by_property)
CONDITIONAL_FIRST_BY_ARGUMENT = RowLayout(CONDITIONAL_FIRST.parts, _from_encode_prompt)
UNGUIDED = RowLayout((Branch.CONDITIONAL,), lambda pipe: False)

# By the exact name of diffusers' class. A new line needs a look at the pipeline's source: which
# rows does it give the denoiser, in which order, and when?
#
# For each of the first table the package has a class: "XPipeline" becomes "XRDAAMPipeline".
LAYOUTS_WITH_CLASS: dict[str, RowLayout | TwoCallLayout] = {
    "StableDiffusionPipeline": GUIDED,
    "StableDiffusionImg2ImgPipeline": GUIDED,
    "StableDiffusionInpaintPipeline": GUIDED,
    "StableDiffusionControlNetPipeline": GUIDED,
    "StableDiffusionControlNetImg2ImgPipeline": GUIDED,
    "StableDiffusionControlNetInpaintPipeline": GUIDED,
    "StableDiffusionInstructPix2PixPipeline": RowLayout(_TRIPLE, _by_property),
    "StableDiffusionXLPipeline": GUIDED,
    "StableDiffusionXLImg2ImgPipeline": GUIDED,
    "StableDiffusionXLInpaintPipeline": GUIDED,
    "StableDiffusionXLControlNetPipeline": GUIDED,
    "StableDiffusionXLControlNetImg2ImgPipeline": GUIDED,
    "StableDiffusionXLControlNetInpaintPipeline": GUIDED,
    "StableDiffusionXLInstructPix2PixPipeline": RowLayout(_TRIPLE, _from_encode_prompt),
    "LatentConsistencyModelPipeline": UNGUIDED,
    "LatentConsistencyModelImg2ImgPipeline": UNGUIDED,
    "StableDiffusionXLControlNetUnionPipeline": GUIDED,
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": GUIDED,
    "StableDiffusionXLControlNetUnionInpaintPipeline": GUIDED,
    "StableDiffusionAdapterPipeline": GUIDED,
    "StableDiffusionXLAdapterPipeline": GUIDED,
    "StableDiffusionUpscalePipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionLatentUpscalePipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionDepth2ImgPipeline": GUIDED,
    "StableDiffusionPAGPipeline": PAG_LAYOUT,
    "StableDiffusionPAGImg2ImgPipeline": PAG_LAYOUT,
    "StableDiffusionPAGInpaintPipeline": PAG_LAYOUT,
    "StableDiffusionControlNetPAGPipeline": PAG_LAYOUT,
    "StableDiffusionControlNetPAGInpaintPipeline": PAG_LAYOUT,
    "StableDiffusionXLPAGPipeline": PAG_LAYOUT,
    "StableDiffusionXLPAGImg2ImgPipeline": PAG_LAYOUT,
    "StableDiffusionXLPAGInpaintPipeline": PAG_LAYOUT,
    "StableDiffusionXLControlNetPAGPipeline": PAG_LAYOUT,
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": PAG_LAYOUT,
    "KolorsPipeline": GUIDED,
    "KolorsImg2ImgPipeline": GUIDED,
    "KolorsPAGPipeline": PAG_LAYOUT,
    "LDMTextToImagePipeline": RowLayout(CFG_ROWS, _by_scale_argument),
    "AnimateDiffPipeline": GUIDED,
    "AnimateDiffSDXLPipeline": GUIDED,
    "AnimateDiffControlNetPipeline": GUIDED,
    "AnimateDiffSparseControlNetPipeline": GUIDED,
    "AnimateDiffVideoToVideoPipeline": GUIDED,
    "AnimateDiffVideoToVideoControlNetPipeline": GUIDED,
    "AnimateDiffPAGPipeline": PAG_LAYOUT,
}
# Recorded with record_attention, or by a class that a user derives from the mixin.
LAYOUTS_WITHOUT_CLASS: dict[str, RowLayout | TwoCallLayout] = {
    "PIAPipeline": GUIDED,
    "TextToVideoSDPipeline": GUIDED_BY_ARGUMENT,
    "VideoToVideoSDPipeline": GUIDED_BY_ARGUMENT,
    # Their do_classifier_free_guidance is there, but what they go by is a variable of their own.
    "StableDiffusionControlNetXSPipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionXLControlNetXSPipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionGLIGENPipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionGLIGENTextImagePipeline": TwoCallLayout(GUIDED_BY_ARGUMENT),
    "StableDiffusionSAGPipeline": TwoCallLayout(GUIDED_BY_ARGUMENT),
    "StableDiffusionLDM3DPipeline": GUIDED,
    "StableDiffusionDiffEditPipeline": GUIDED_BY_ARGUMENT,
    "StableDiffusionModelEditingPipeline": GUIDED_BY_ARGUMENT,
    "CycleDiffusionPipeline": RowLayout(_CYCLE, _from_encode_prompt),
    "StableUnCLIPPipeline": GUIDED_BY_ARGUMENT,
    "StableUnCLIPImg2ImgPipeline": GUIDED_BY_ARGUMENT,
}
LAYOUTS = LAYOUTS_WITH_CLASS | LAYOUTS_WITHOUT_CLASS
PIPELINES = tuple(LAYOUTS)
