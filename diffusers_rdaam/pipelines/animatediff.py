"""AnimateDiff: short videos from Stable Diffusion with motion modules.

Every frame is an image with an attribution of its own: ``attributions[video * frames + frame]``.
"""

from __future__ import annotations

from diffusers import (
    AnimateDiffControlNetPipeline,
    AnimateDiffPAGPipeline,
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AnimateDiffSparseControlNetPipeline,
    AnimateDiffVideoToVideoControlNetPipeline,
    AnimateDiffVideoToVideoPipeline,
)

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin


class AnimateDiffRDAAMPipeline(RDAAMPipelineMixin, AnimateDiffPipeline):
    """:class:`diffusers.AnimateDiffPipeline` with an attribution a frame."""


class AnimateDiffControlNetRDAAMPipeline(RDAAMPipelineMixin, AnimateDiffControlNetPipeline):
    """:class:`diffusers.AnimateDiffControlNetPipeline` with an attribution a frame."""


class AnimateDiffPAGRDAAMPipeline(RDAAMPipelineMixin, AnimateDiffPAGPipeline):
    """:class:`diffusers.AnimateDiffPAGPipeline` with an attribution a frame."""


class AnimateDiffSDXLRDAAMPipeline(RDAAMPipelineMixin, AnimateDiffSDXLPipeline):
    """:class:`diffusers.AnimateDiffSDXLPipeline` with an attribution a frame."""


class AnimateDiffSparseControlNetRDAAMPipeline(
    RDAAMPipelineMixin, AnimateDiffSparseControlNetPipeline
):
    """:class:`diffusers.AnimateDiffSparseControlNetPipeline` with an attribution a frame."""


class AnimateDiffVideoToVideoRDAAMPipeline(RDAAMPipelineMixin, AnimateDiffVideoToVideoPipeline):
    """:class:`diffusers.AnimateDiffVideoToVideoPipeline` with an attribution a frame."""


class AnimateDiffVideoToVideoControlNetRDAAMPipeline(
    RDAAMPipelineMixin, AnimateDiffVideoToVideoControlNetPipeline
):
    """:class:`diffusers.AnimateDiffVideoToVideoControlNetPipeline` with an attribution a frame."""
