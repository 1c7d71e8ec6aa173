"""Stable Diffusion and Stable Diffusion XL with T2I-Adapters."""

from __future__ import annotations

from diffusers import (
    StableDiffusionAdapterPipeline,
    StableDiffusionXLAdapterPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class StableDiffusionAdapterRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionAdapterPipeline):
    """:class:`diffusers.StableDiffusionAdapterPipeline` with an ``attribution``."""


class StableDiffusionXLAdapterRDAAMPipeline(RDAAMPipelineMixin, StableDiffusionXLAdapterPipeline):
    """:class:`diffusers.StableDiffusionXLAdapterPipeline` with an ``attribution``."""
