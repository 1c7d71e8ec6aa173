"""Latent consistency models: few steps, guidance embedded, so every row is conditional."""

from __future__ import annotations

from diffusers import LatentConsistencyModelImg2ImgPipeline, LatentConsistencyModelPipeline

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class LatentConsistencyModelRDAAMPipeline(RDAAMPipelineMixin, LatentConsistencyModelPipeline):
    """:class:`diffusers.LatentConsistencyModelPipeline` whose outputs have an ``attribution``."""


class LatentConsistencyModelImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, LatentConsistencyModelImg2ImgPipeline
):
    """:class:`diffusers.LatentConsistencyModelImg2ImgPipeline` with an ``attribution``."""
