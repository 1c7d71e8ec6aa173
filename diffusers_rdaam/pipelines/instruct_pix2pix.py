"""InstructPix2Pix on Stable Diffusion and on Stable Diffusion XL: edits an image as told.

Under guidance their denoiser sees three rows an image: with the text, with the image only, and with
neither; the first is recorded.
"""

from __future__ import annotations

from diffusers import (
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionInstructPix2PixRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionInstructPix2PixPipeline
):
    """:class:`diffusers.StableDiffusionInstructPix2PixPipeline` with an ``attribution``."""


class StableDiffusionXLInstructPix2PixRDAAMPipeline(
    RDAAMPipelineMixin, StableDiffusionXLInstructPix2PixPipeline
):
    """:class:`diffusers.StableDiffusionXLInstructPix2PixPipeline` with an ``attribution``."""
