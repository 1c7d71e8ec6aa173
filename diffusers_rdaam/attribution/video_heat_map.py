"""VideoHeatMap: one word or phrase over the frames of a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.attribution.aggregations.aggregation import Recipe
from diffusers_rdaam.attribution.choosing import chosen_numbers
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.frame_timeline import FrameTimeline
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.region_words import sum_columns
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Region, RegionLike, as_region
from diffusers_rdaam.shapes import Column, Size, TokenScores, VideoColumn


class Video(Protocol):
    """What a heat map knows of its video, whose class is defined above it."""

    @property
    def parts(self) -> Sequence[Record]: ...
    @property
    def frame_mapping(self) -> FrameMapping: ...
    @property
    def images(self) -> tuple[Image.Image, ...]: ...
    @property
    def numbers(self) -> tuple[int, ...]: ...
    @property
    def image_size(self) -> Size: ...
    def frame(self, number: int) -> Record: ...
    def at(self, frames: Sequence[int]) -> Video: ...


@dataclass(frozen=True, eq=False, repr=False)
class VideoHeatMap(Sequence[HeatMap]):
    """The attention probability of a word at every pixel of every frame.

    ``heat[7]`` is the :class:`HeatMap` of a frame, ``heat[3:9]`` the map of several frames.

    Args:
        video: that it is of.
        match: the word or phrase: its spans in the prompt and its columns.
        recipe: the aggregation that makes each frame's map; None for the mean.
    """

    video: Video
    match: Match = field(repr=False)
    recipe: Recipe | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """The word or phrase, as the prompt writes it."""
        return self.match.text

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns that are summed."""
        return self.match.columns

    @property
    def size(self) -> Size:
        """Height and width of a frame in pixels."""
        return self.video.image_size

    @property
    def values(self) -> VideoColumn:
        """The probabilities ``(frames, height, width)`` float32, made anew at every access.

        Those of one frame are ``heat[7].values``.
        """
        return self.resized(self.size)

    def resized(self, size: Size) -> VideoColumn:
        """The probabilities of every frame at another height and width."""
        latent = self.video.frame_mapping.latent
        maps = {part: self._map_of(self.video.parts[part], size) for part in dict.fromkeys(latent)}
        return torch.stack([maps[part] for part in latent])

    def _map_of(self, part: Record, size: Size) -> Column:
        if self.recipe is None:
            return part.pixels(self.columns, size=size)
        return self.recipe.pixels(part, self.match, size)

    def numpy(self) -> np.ndarray:
        """A copy of the values: ``(frames, height, width)`` float32, probabilities."""
        return self.values.numpy()

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.video.frame_mapping)

    @overload
    def __getitem__(self, which: int) -> HeatMap: ...
    @overload
    def __getitem__(self, which: slice) -> VideoHeatMap: ...
    def __getitem__(self, which: int | slice) -> HeatMap | VideoHeatMap:
        """The heat map of one frame, or of several.

        Raises:
            InputError: there is no such frame.
        """
        numbers = list(chosen_numbers(which, len(self), "frames"))
        if isinstance(which, slice):
            return VideoHeatMap(self.video.at(numbers), self.match, self.recipe)
        frame = self.video.frame(numbers[0])
        if self.recipe is None:
            return HeatMap.read_from(frame, self.match)
        return HeatMap.aggregated(frame, self.match, self.recipe)

    def __iter__(self) -> Iterator[HeatMap]:
        return (self[frame] for frame in range(len(self)))

    def mass(self, region: RegionLike) -> float:
        """The mean of the values over a region of every frame: the word's score there.

        Raises:
            RegionError: ``region`` is not a region of this video's frames.
        """
        checked = as_region(region, image_size=self.size)
        if self.recipe is None:
            return sum_columns(mean_scores(self.video, checked), self.columns)
        return float(np.mean([frame.mass(checked) for frame in self]))

    def over_frames(self) -> FrameTimeline:
        """The same word frame by frame: a film strip, an animation, scores over the frames.

        Raises:
            InputError: the map is an aggregation, whose frames have no scores in common.
        """
        if self.recipe is not None:
            raise InputError(
                f"The map of {self.text!r} is an aggregation, {self.recipe}; over_frames() shows "
                f"the mean: video.word({self.text!r}).over_frames(). heat[7] is a frame's map."
            )
        video = self.video
        return FrameTimeline(
            text=self.text,
            columns=self.columns,
            parts=video.parts,
            mapping=video.frame_mapping,
            images=video.images,
            numbers=video.numbers,
        )

    def _repr_html_(self) -> str:
        return self.over_frames()._repr_html_()

    def __repr__(self) -> str:
        height, width = self.size
        score = self.mass((0, 0, width, height))
        return (
            f"VideoHeatMap({self.text!r}, {len(self)} frames of {width}x{height} pixels, mean "
            f"{score:.3g})"
        )


def mean_scores(video: Video, region: Region) -> TokenScores:
    """The mean over a video's frames of each column's probability over a region.

    Raises:
        RegionError: the region lies outside the frames.
    """
    return _mean(video, lambda part: part.scores(region))


def mean_levels(video: Video) -> TokenScores:
    """The mean over a video's frames of each column's probability over the whole frame."""
    return _mean(video, lambda part: part.levels)


def _mean(video: Video, scores_of: Any) -> TokenScores:
    frames = Counter(video.frame_mapping.latent)
    if len(frames) == 1:
        # To the last digit what a frame says.
        return scores_of(video.parts[next(iter(frames))])
    total = sum(scores_of(video.parts[part]).double() * count for part, count in frames.items())
    return (total / frames.total()).float()
