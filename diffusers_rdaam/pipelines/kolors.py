"""Kolors: a UNet like Stable Diffusion XL's, with ChatGLM for its text encoder.

Its 256 columns are padded on the left; see :mod:`diffusers_rdaam.tokens.chatglm`.
"""

from __future__ import annotations

from diffusers.pipelines.kolors.pipeline_kolors import (
    KolorsPipeline,
)
from diffusers.pipelines.kolors.pipeline_kolors_img2img import (
    KolorsImg2ImgPipeline,
)
from diffusers.pipelines.pag.pipeline_pag_kolors import (
    KolorsPAGPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class KolorsRDAAMPipeline(RDAAMPipelineMixin, KolorsPipeline):
    """:class:`diffusers.KolorsPipeline` with an ``attribution``."""


class KolorsImg2ImgRDAAMPipeline(RDAAMPipelineMixin, KolorsImg2ImgPipeline):
    """:class:`diffusers.KolorsImg2ImgPipeline` with an ``attribution``."""


class KolorsPAGRDAAMPipeline(RDAAMPipelineMixin, KolorsPAGPipeline):
    """:class:`diffusers.KolorsPAGPipeline` with an ``attribution``."""
