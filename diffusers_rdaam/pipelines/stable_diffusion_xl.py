"""Stable Diffusion XL: text to image, image to image (also the refiner), inpainting.

Two text encoders share one axis of columns: column ``j`` is token ``j`` of ``prompt`` in the first
and of ``prompt_2`` in the second. Where ``prompt_2`` is another text, the words are those of both,
and ``word.encoder`` says whose a word is. The refiner has the second encoder only, which reads
``prompt``.
"""

from __future__ import annotations

from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionXLRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionXLPipeline):
    """:class:`diffusers.StableDiffusionXLPipeline` whose outputs have an ``attribution``."""


class StableDiffusionXLImg2ImgRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionXLImg2ImgPipeline):
    """:class:`diffusers.StableDiffusionXLImg2ImgPipeline` whose outputs have an ``attribution``."""


class StableDiffusionXLInpaintRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionXLInpaintPipeline):
    """:class:`diffusers.StableDiffusionXLInpaintPipeline` whose outputs have an ``attribution``.

    For UNets with 4 and with 9 input channels. With ``padding_mask_crop`` the image is made
    without an attribution, and a warning says so.
    """
