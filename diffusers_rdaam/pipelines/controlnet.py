"""Stable Diffusion and Stable Diffusion XL with one ControlNet or several.

Only the UNet is recorded: a ControlNet reads the same text in cross-attention of its own, but it
makes no pixels.
"""

from __future__ import annotations

from diffusers import (
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionControlNetRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionControlNetPipeline):
    """:class:`diffusers.StableDiffusionControlNetPipeline` with an ``attribution``."""


class StableDiffusionControlNetImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionControlNetImg2ImgPipeline
):
    """:class:`diffusers.StableDiffusionControlNetImg2ImgPipeline` with an ``attribution``."""


class StableDiffusionControlNetInpaintRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionControlNetInpaintPipeline
):
    """:class:`diffusers.StableDiffusionControlNetInpaintPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetImg2ImgPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetImg2ImgPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetInpaintRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetInpaintPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetInpaintPipeline` with an ``attribution``."""
