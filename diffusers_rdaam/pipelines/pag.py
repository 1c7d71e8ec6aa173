"""Stable Diffusion 1, 2 and XL with perturbed-attention guidance.

Their denoiser sees rows of a third kind: with the text, but with self-attention perturbed. They
belong to neither prompt and are not recorded.
"""

from __future__ import annotations

from diffusers import (
    StableDiffusionControlNetPAGInpaintPipeline,
    StableDiffusionControlNetPAGPipeline,
    StableDiffusionPAGImg2ImgPipeline,
    StableDiffusionPAGInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionXLControlNetPAGImg2ImgPipeline,
    StableDiffusionXLControlNetPAGPipeline,
    StableDiffusionXLPAGImg2ImgPipeline,
    StableDiffusionXLPAGInpaintPipeline,
    StableDiffusionXLPAGPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionPAGRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionPAGPipeline):
    """:class:`diffusers.StableDiffusionPAGPipeline` with an ``attribution``."""


class StableDiffusionPAGImg2ImgRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionPAGImg2ImgPipeline):
    """:class:`diffusers.StableDiffusionPAGImg2ImgPipeline` with an ``attribution``."""


class StableDiffusionPAGInpaintRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionPAGInpaintPipeline):
    """:class:`diffusers.StableDiffusionPAGInpaintPipeline` with an ``attribution``."""


class StableDiffusionControlNetPAGRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionControlNetPAGPipeline
):
    """:class:`diffusers.StableDiffusionControlNetPAGPipeline` with an ``attribution``."""


class StableDiffusionControlNetPAGInpaintRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionControlNetPAGInpaintPipeline
):
    """:class:`diffusers.StableDiffusionControlNetPAGInpaintPipeline` with an ``attribution``."""


class StableDiffusionXLPAGRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionXLPAGPipeline):
    """:class:`diffusers.StableDiffusionXLPAGPipeline` with an ``attribution``."""


class StableDiffusionXLPAGImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLPAGImg2ImgPipeline
):
    """:class:`diffusers.StableDiffusionXLPAGImg2ImgPipeline` with an ``attribution``."""


class StableDiffusionXLPAGInpaintRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLPAGInpaintPipeline
):
    """:class:`diffusers.StableDiffusionXLPAGInpaintPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetPAGRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetPAGPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetPAGPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetPAGImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetPAGImg2ImgPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetPAGImg2ImgPipeline` with an ``attribution``."""
