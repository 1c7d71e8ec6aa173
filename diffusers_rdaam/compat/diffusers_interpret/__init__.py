"""diffusers-interpret's names on this package: ``from diffusers_rdaam.compat.diffusers_interpret``.

Gradients of an image's pixels by the tokens of its prompt, and by an input image. What is other
than in JoaoLages/diffusers-interpret 0.5.0, and why, is in
``docs/migrating_diffusers_interpret.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.diffusers_interpret.data import (
    AttributionAlgorithm,
    AttributionMethods,
    PipelineExplainerForBoundingBoxOutput,
    PipelineExplainerOutput,
    PipelineImg2ImgExplainerForBoundingBoxOutputOutput,
    PipelineImg2ImgExplainerOutput,
    TokenAttributions,
)
from diffusers_rdaam.compat.diffusers_interpret.explainers import (
    StableDiffusionImg2ImgPipelineExplainer,
    StableDiffusionInpaintPipelineExplainer,
    StableDiffusionPipelineExplainer,
)
from diffusers_rdaam.compat.diffusers_interpret.images import GeneratedImages
from diffusers_rdaam.compat.diffusers_interpret.saliency import PixelAttributions, SaliencyMap

__all__ = [
    "AttributionAlgorithm",
    "AttributionMethods",
    "GeneratedImages",
    "PipelineExplainerForBoundingBoxOutput",
    "PipelineExplainerOutput",
    "PipelineImg2ImgExplainerForBoundingBoxOutputOutput",
    "PipelineImg2ImgExplainerOutput",
    "PixelAttributions",
    "SaliencyMap",
    "StableDiffusionImg2ImgPipelineExplainer",
    "StableDiffusionInpaintPipelineExplainer",
    "StableDiffusionPipelineExplainer",
    "TokenAttributions",
]
