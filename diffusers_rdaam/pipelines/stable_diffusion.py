"""Stable Diffusion 1 and 2, text to image."""

from __future__ import annotations

from diffusers import StableDiffusionPipeline

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionPipeline):
    """:class:`diffusers.StableDiffusionPipeline` whose outputs have an ``attribution``.

    Everything else is the stock pipeline's: constructor, ``from_pretrained``, ``from_pipe``,
    ``save_pretrained`` (plain diffusers loads the folder), ``__call__``, and, bit for bit, the
    image.
    """
