"""Stable Diffusion 1 and 2: text to image, image to image, inpainting."""

from __future__ import annotations

from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionPipeline):
    """:class:`diffusers.StableDiffusionPipeline` whose outputs have an ``attribution``.

    Everything else is the stock pipeline's: constructor, ``from_pretrained``, ``from_pipe``,
    ``save_pretrained`` (plain diffusers loads the folder), ``__call__``, and, bit for bit, the
    image.
    """


class StableDiffusionImg2ImgRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionImg2ImgPipeline):
    """:class:`diffusers.StableDiffusionImg2ImgPipeline` whose outputs have an ``attribution``.

    Its denoiser is called ``strength`` times ``num_inference_steps`` times, and so are the maps
    means of that many calls; ``attribution.run["denoiser_calls"]`` is their number.
    """


class StableDiffusionInpaintRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionInpaintPipeline):
    """:class:`diffusers.StableDiffusionInpaintPipeline` whose outputs have an ``attribution``.

    For UNets with 4 and with 9 input channels. With ``padding_mask_crop`` the image is made
    without an attribution, and a warning says so.
    """
