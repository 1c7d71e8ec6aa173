"""Which words made this region of a generated image, and which regions this word made.

Names are loaded on first use, so that ``import diffusers_rdaam`` takes milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Attribution": "diffusers_rdaam.attribution.attribution",
    "AutoRDAAMPipelineForImage2Image": "diffusers_rdaam.pipelines.auto",
    "AutoRDAAMPipelineForInpainting": "diffusers_rdaam.pipelines.auto",
    "AutoRDAAMPipelineForText2Image": "diffusers_rdaam.pipelines.auto",
    "Box": "diffusers_rdaam.geometry.region",
    "HeatMap": "diffusers_rdaam.attribution.heat_map",
    "LatentConsistencyModelImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.latent_consistency",
    "LatentConsistencyModelRDAAMPipeline": "diffusers_rdaam.pipelines.latent_consistency",
    "Mask": "diffusers_rdaam.geometry.region",
    "Polygon": "diffusers_rdaam.geometry.region",
    "RDAAMError": "diffusers_rdaam.errors",
    "RDAAMPipelineMixin": "diffusers_rdaam.pipelines.mixin",
    "RDAAMProcessor": "diffusers_rdaam.recording.processor",
    "RDAAMWarning": "diffusers_rdaam.errors",
    "RegionWords": "diffusers_rdaam.attribution.region_words",
    "StableDiffusionControlNetImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionControlNetInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionInstructPix2PixRDAAMPipeline": "diffusers_rdaam.pipelines.instruct_pix2pix",
    "StableDiffusionRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionXLControlNetImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLControlNetInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "StableDiffusionXLInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "StableDiffusionXLInstructPix2PixRDAAMPipeline": "diffusers_rdaam.pipelines.instruct_pix2pix",
    "StableDiffusionXLRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "load_demo_pipeline": "diffusers_rdaam.demo.loader",
    "record_attention": "diffusers_rdaam.pipelines.record",
}

__all__ = [
    "Attribution",
    "AutoRDAAMPipelineForImage2Image",
    "AutoRDAAMPipelineForInpainting",
    "AutoRDAAMPipelineForText2Image",
    "Box",
    "HeatMap",
    "LatentConsistencyModelImg2ImgRDAAMPipeline",
    "LatentConsistencyModelRDAAMPipeline",
    "Mask",
    "Polygon",
    "RDAAMError",
    "RDAAMPipelineMixin",
    "RDAAMProcessor",
    "RDAAMWarning",
    "RegionWords",
    "StableDiffusionControlNetImg2ImgRDAAMPipeline",
    "StableDiffusionControlNetInpaintRDAAMPipeline",
    "StableDiffusionControlNetRDAAMPipeline",
    "StableDiffusionImg2ImgRDAAMPipeline",
    "StableDiffusionInpaintRDAAMPipeline",
    "StableDiffusionInstructPix2PixRDAAMPipeline",
    "StableDiffusionRDAAMPipeline",
    "StableDiffusionXLControlNetImg2ImgRDAAMPipeline",
    "StableDiffusionXLControlNetInpaintRDAAMPipeline",
    "StableDiffusionXLControlNetRDAAMPipeline",
    "StableDiffusionXLImg2ImgRDAAMPipeline",
    "StableDiffusionXLInpaintRDAAMPipeline",
    "StableDiffusionXLInstructPix2PixRDAAMPipeline",
    "StableDiffusionXLRDAAMPipeline",
    "__version__",
    "load_demo_pipeline",
    "record_attention",
]

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.heat_map import HeatMap
    from diffusers_rdaam.attribution.region_words import RegionWords
    from diffusers_rdaam.demo.loader import load_demo_pipeline
    from diffusers_rdaam.errors import (
        RDAAMError,
        RDAAMWarning,
    )
    from diffusers_rdaam.geometry.region import (
        Box,
        Mask,
        Polygon,
    )
    from diffusers_rdaam.pipelines.auto import (
        AutoRDAAMPipelineForImage2Image,
        AutoRDAAMPipelineForInpainting,
        AutoRDAAMPipelineForText2Image,
    )
    from diffusers_rdaam.pipelines.controlnet import (
        StableDiffusionControlNetImg2ImgRDAAMPipeline,
        StableDiffusionControlNetInpaintRDAAMPipeline,
        StableDiffusionControlNetRDAAMPipeline,
        StableDiffusionXLControlNetImg2ImgRDAAMPipeline,
        StableDiffusionXLControlNetInpaintRDAAMPipeline,
        StableDiffusionXLControlNetRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.instruct_pix2pix import (
        StableDiffusionInstructPix2PixRDAAMPipeline,
        StableDiffusionXLInstructPix2PixRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.latent_consistency import (
        LatentConsistencyModelImg2ImgRDAAMPipeline,
        LatentConsistencyModelRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
    from diffusers_rdaam.pipelines.record import record_attention
    from diffusers_rdaam.pipelines.stable_diffusion import (
        StableDiffusionImg2ImgRDAAMPipeline,
        StableDiffusionInpaintRDAAMPipeline,
        StableDiffusionRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.stable_diffusion_xl import (
        StableDiffusionXLImg2ImgRDAAMPipeline,
        StableDiffusionXLInpaintRDAAMPipeline,
        StableDiffusionXLRDAAMPipeline,
    )
    from diffusers_rdaam.recording.processor import RDAAMProcessor


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'diffusers_rdaam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
