"""From what was recorded to the attributions of videos; what a run of videos hands back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.errors import ImageCountWarning, NoAttributionError
from diffusers_rdaam.recording.recorder import Recorder


class VideoAttributions(list[Any]):
    """The attributions of a run that made videos.

    ``videos`` has one :class:`VideoAttribution` a video. The list itself has the same, or, where
    every frame is a row of the denoiser, the frames of all videos one after another, as
    AnimateDiff's runs have always had them: ``attributions[video * frames + frame]``.

    Args:
        items: of the list.
        videos: one a video.
    """

    def __init__(self, items: Iterable[Any], videos: Sequence[VideoAttribution]) -> None:
        super().__init__(items)
        self.videos = list(videos)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (VideoAttributions, (list(self), self.videos))


def videos_of(attributions: Sequence[Any]) -> Sequence[Any]:
    """One attribution an image or a video."""
    return getattr(attributions, "videos", attributions)


def is_stacked(recorder: Recorder) -> bool:
    """Whether the maps of each row are a video's, its frames one below another."""
    return recorder.grid is not None and len(recorder.grid) > 2


def as_videos(
    attributions: list[Attribution], recorder: Recorder, images: Sequence[Image.Image] | None
) -> list[Attribution]:
    """The attributions of a run; those of videos as :class:`VideoAttributions`.

    Args:
        attributions: one for each row that was recorded; without images where a row is a video.
        recorder: of the run.
        images: all frames, video by video, where they were decoded.

    Raises:
        NoAttributionError: the videos do not divide the frames.
    """
    if recorder.row_frames is not None:
        frames = recorder.row_frames
        starts = range(0, len(attributions), frames)
        videos = [VideoAttribution.of_frames(attributions[i : i + frames]) for i in starts]
        return VideoAttributions(attributions, videos)
    if not is_stacked(recorder):
        return attributions
    each, rest = divmod(len(images or ()), len(attributions))
    if rest:
        raise NoAttributionError(
            f"The call returned {len(images or ())} frames, and {len(attributions)} videos were "
            "recorded: which frame belongs to which video is not known.",
            warning=ImageCountWarning,
        )
    mapping = _mapping(recorder, each or None)
    videos = [
        VideoAttribution.of_stacked(one, mapping, (images or ())[i * each : (i + 1) * each])
        for i, one in enumerate(attributions)
    ]
    return VideoAttributions(videos, videos)


def _mapping(recorder: Recorder, frames: int | None) -> FrameMapping:
    assert recorder.grid is not None
    mapping = recorder.family.frame_mapping(recorder.pipe, recorder.grid, frames)
    return FrameMapping.each(recorder.grid[0]) if mapping is None else mapping
