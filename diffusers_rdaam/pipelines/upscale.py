"""Upscalers with a prompt, and image to image with a depth map."""

from __future__ import annotations

from diffusers import (
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionUpscalePipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionDepth2ImgRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionDepth2ImgPipeline):
    """:class:`diffusers.StableDiffusionDepth2ImgPipeline` with an ``attribution``."""


class StableDiffusionLatentUpscaleRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionLatentUpscalePipeline
):
    """:class:`diffusers.StableDiffusionLatentUpscalePipeline` with an ``attribution``."""


class StableDiffusionUpscaleRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionUpscalePipeline):
    """:class:`diffusers.StableDiffusionUpscalePipeline` with an ``attribution``."""
