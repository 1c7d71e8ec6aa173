"""Stable Diffusion XL with one ControlNet for several kinds of control.

Only the UNet is recorded.
"""

from __future__ import annotations

from diffusers import (
    StableDiffusionXLControlNetUnionImg2ImgPipeline,
    StableDiffusionXLControlNetUnionInpaintPipeline,
    StableDiffusionXLControlNetUnionPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionXLControlNetUnionRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetUnionPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetUnionPipeline` with an ``attribution``."""


class StableDiffusionXLControlNetUnionImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetUnionImg2ImgPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline` with an
    ``attribution``.
    """


class StableDiffusionXLControlNetUnionInpaintRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLControlNetUnionInpaintPipeline
):
    """:class:`diffusers.StableDiffusionXLControlNetUnionInpaintPipeline` with an
    ``attribution``.
    """
