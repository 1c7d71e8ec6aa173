"""Arguments with which a pipeline makes its video in parts, or cuts frames off, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusers_rdaam.tokens.sources.call_arguments import argument

# From a pipeline and the arguments of its call: why its maps are not those of its video, and what
# to do; empty where they are.
MismatchRule = Callable[[Any, Mapping[str, Any]], str]


def skyreels_parts(pipe: Any, arguments: Mapping[str, Any]) -> str:
    """A video that is longer than the model's is made of parts that overlap."""
    names = ("num_frames", "base_num_frames", "overlap_history")
    frames, most, overlap = (argument(pipe, arguments, name) for name in names)
    if overlap is not None and most is not None and frames > most:
        return (
            f"A video of {frames} frames is made in parts of {most} that overlap, each by a run of "
            "its own, and maps of several parts would be added up. Ask for as many frames as "
            "base_num_frames, or for fewer."
        )
    if arguments.get("last_image") is not None:
        return (
            "With last_image the denoiser has latent frames that are cut off before the video is "
            "decoded, so its latent frames are not those of the video. Leave last_image out."
        )
    return ""


def wan_animate_parts(pipe: Any, arguments: Mapping[str, Any]) -> str:
    """A pose video that is longer than a segment is animated segment by segment."""
    overlap = argument(pipe, arguments, "prev_segment_conditioning_frames")
    length = argument(pipe, arguments, "segment_frame_length")
    scale = pipe.vae_scale_factor_temporal
    if length % scale != 1:
        # As the pipeline rounds it.
        length = length // scale * scale + 1
    frames = len(argument(pipe, arguments, "pose_video"))
    if frames > length:
        return (
            f"A video of {frames} frames is made in segments of {length} that share {overlap} "
            "frames, each by a run of its own, and maps of several segments would be added up. "
            f"Give a pose_video of at most {length} frames, or a longer segment_frame_length."
        )
    return ""
