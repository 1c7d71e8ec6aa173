"""Timeline: one word over the steps of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import torch
from PIL import Image

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.attribution.choosing import chosen_numbers
from diffusers_rdaam.attribution.kept_maps import MapStack, by_grid, grid_key
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.select import kept_by
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.geometry.region import RegionLike, as_region
from diffusers_rdaam.shapes import Column, StepMaps, StepWeights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIP_SIDE = 192
GIF_SIDE = 512
SHOWN_FRAMES = 10

# HeatMap, which stands above: a heat map has a timeline, and a timeline heat maps.
Frame = TypeVar("Frame")


@dataclass(frozen=True, eq=False)
class Timeline(Generic[Frame]):
    """The heat maps of a word, one a step; steps at which nothing was recorded are left out.

    ``timeline[3]`` is a :class:`HeatMap`, ``timeline[10:20]`` a timeline. It holds the word's maps
    on their grids; one of the image's size is made when it is needed.

    Args:
        text, spans, columns, encoders: what the maps are of, as in :class:`HeatMap`.
        image_size: height and width in pixels.
        image: the image, where there is one.
        steps: the number of each step in the run, from 0.
        count: how many steps the run had.
        timesteps: the scheduler's, one a step; empty where they are not known.
        maps: for each grid ``(steps, height, width)``, the mean probability of a step.
        weights: ``(steps, grids)``: a grid's part in a step is its weight over the row's sum.
        since: the step from which each map is the mean, where they are cumulative.
        frame: makes the heat map of a step of values, text, spans, columns and image.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]
    image_size: tuple[int, int]
    image: Image.Image | None = field(repr=False)
    steps: tuple[int, ...] = field(repr=False)
    count: int
    timesteps: tuple[float, ...] = field(repr=False)
    maps: tuple[StepMaps, ...] = field(repr=False)
    weights: StepWeights = field(repr=False)
    since: int | None = None
    encoders: tuple[int, ...] = field(default=(), repr=False)
    frame: Callable[..., Frame] = field(repr=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, which: int) -> Frame: ...
    @overload
    def __getitem__(self, which: slice) -> Timeline[Frame]: ...
    def __getitem__(self, which: int | slice) -> Frame | Timeline[Frame]:
        """The heat map of one step, or the timeline of several.

        Raises:
            InputError: there is no such step.
        """
        numbers = list(chosen_numbers(which, len(self), "steps"))
        if isinstance(which, slice):
            return self._take(numbers)
        values = self._values(numbers[0], self.image_size)
        return self.frame(
            values, self.text, self.spans, self.columns, self.image, encoders=self.encoders
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Such as ``"step 12 of 50, timestep 741"``; counted from 1, as people do."""
        labels = [
            f"step {step + 1} of {self.count}"
            if self.since is None
            else f"steps {self.since + 1} to {step + 1} of {self.count}"
            for step in self.steps
        ]
        if self.timesteps:
            pairs = zip(labels, self.timesteps, strict=True)
            labels = [f"{label}, timestep {timestep:g}" for label, timestep in pairs]
        return tuple(labels)

    def mass(self, region: RegionLike) -> list[float]:
        """The word's score in a region at each step: ``[heat.mass(region) for heat in self]``.

        Raises:
            RegionError: ``region`` is not a region of this image.
        """
        sizes = [(maps.shape[1], maps.shape[2]) for maps in self.maps]
        cells = as_region(region).grid_weights(self.image_size, sizes)
        scores = torch.stack(
            [
                maps.flatten(1).double() @ weights.flatten().double()
                for maps, weights in zip(self.maps, cells, strict=True)
            ],
            dim=1,
        )
        return [float(score) for score in (scores * self._parts()).sum(dim=1)]

    def cumulative(self) -> Timeline[Frame]:
        """The mean from the first of these steps up to each; the last is the mean of all.

        Raises:
            InputError: it is cumulative already.
        """
        if self.since is not None:
            raise InputError("This timeline is cumulative already.")
        weights = self.weights.cumsum(dim=0)
        maps = []
        for grid, old, new in zip(self.maps, self.weights.T, weights.T, strict=True):
            total = (grid * old[:, None, None]).cumsum(dim=0)
            # Up to a step at which the grid had nothing it is nothing, and its weight is 0.
            maps.append((total / new.clamp(min=1e-300)[:, None, None]).to(grid.dtype))
        return replace(self, maps=tuple(maps), weights=weights, since=self.steps[0])

    def film_strip(self, *, columns: int | None = None, every: int = 1) -> Image.Image:
        """A picture of every ``every``-th step and the last, in rows of ``columns`` (5 at most).

        One colour scale for all: the lowest and the highest probability among the steps shown, as
        the bar below the pictures says.

        Raises:
            InputError: ``columns`` or ``every`` is under 1.
        """
        from diffusers_rdaam.drawing.overlay import OPACITY, scale_colours
        from diffusers_rdaam.drawing.timeline import film_strip

        shown = self._every(every)
        frames, scale = shown._frames(STRIP_SIDE)
        colours = scale_colours(opacity=None if self.image is None else OPACITY)
        return film_strip(
            frames,
            shown.labels,
            columns=columns,
            title=self.text,
            scale=scale,
            colours=colours,
        )

    def gif(self, path: str | Path, *, duration: float = 0.15, every: int = 1) -> Path:
        """Write an animation that repeats; one colour scale for all steps. Returns its path.

        Args:
            path: of the file.
            duration: seconds that a step is shown.
            every: as in :meth:`film_strip`.

        Raises:
            InputError: the file cannot be written, or a number is out of range.
        """
        from diffusers_rdaam.drawing.timeline import save_gif

        shown = self._every(every)
        frames, _ = shown._frames(GIF_SIDE)
        return save_gif(frames, shown.labels, Path(path), duration=duration)

    def slider(self, *, every: int = 1) -> str:
        """An HTML page with a slider over the steps: all in one text, to be written to a file."""
        from diffusers_rdaam.drawing.slider import slider_html

        shown = self._every(every)
        frames, _ = shown._frames(GIF_SIDE)
        return slider_html(frames, shown.labels, self.text)

    def plot(self, region: RegionLike | None = None) -> Figure:
        """A matplotlib figure: the score at each step, in a region and in the whole image."""
        from diffusers_rdaam.drawing.figure import lines_figure

        height, width = self.image_size
        lines = {"whole image": self.mass((0, 0, width, height))}
        if region is not None:
            lines = {"region": self.mass(region), **lines}
        return lines_figure([step + 1 for step in self.steps], lines, self.text)

    def _every(self, every: int) -> Timeline[Frame]:
        check_count(every, "every=")
        return self._take([*range(0, len(self) - 1, every), len(self) - 1])

    def _take(self, numbers: list[int]) -> Timeline[Frame]:
        return replace(
            self,
            steps=tuple(self.steps[i] for i in numbers),
            timesteps=tuple(self.timesteps[i] for i in numbers) if self.timesteps else (),
            maps=tuple(maps[numbers] for maps in self.maps),
            weights=self.weights[numbers],
        )

    def _parts(self) -> StepWeights:
        return self.weights / self.weights.sum(dim=1, keepdim=True)

    def _values(self, i: int, size: tuple[int, int]) -> Column:
        values = torch.zeros(size, dtype=torch.float32, device="cpu")
        for maps, part in zip(self.maps, self._parts()[i].tolist(), strict=True):
            values += enlarge(maps[i] * part, *size)
        return values

    def _frames(self, side: int) -> tuple[list[Image.Image], tuple[float, float]]:
        """The pictures, their longer side ``side``, and the scale that they share."""
        from diffusers_rdaam.drawing.timeline import coloured_frames

        height, width = self.image_size
        # Not below the finest grid: there is no anti-aliasing in enlarging.
        factor = max([side, *(max(maps.shape[1:]) for maps in self.maps)]) / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        return coloured_frames([self._values(i, size) for i in range(len(self))], self.image)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import picture

        # The first and the last are always shown.
        strip = self.film_strip(every=max(1, -(-(len(self) - 1) // (SHOWN_FRAMES - 1))))
        return picture(strip, repr(self), limit=max(strip.size))

    def __repr__(self) -> str:
        height, width = self.image_size
        kind = "" if self.since is None else "cumulative, "
        scores = self.mass((0, 0, width, height))
        return (
            f"Timeline({self.text!r}, {kind}{len(self)} steps, {width}x{height} pixels, mean "
            f"{scores[0]:.3g} at the first to {scores[-1]:.3g} at the last)"
        )


def timeline_of(attribution: Record, heat: Match, frame: Callable[..., Frame]) -> Timeline[Frame]:
    """The steps of what a heat map is of.

    Args:
        attribution: of a run that kept its steps.
        heat: the text, spans and columns.
        frame: as in :class:`Timeline`.

    Raises:
        NoAttributionError: the run did not keep its steps separately.
    """
    kept = kept_by(attribution, "steps")
    assert kept is not None
    details = by_grid(kept.details)
    maps = [_over_steps(details[grid_key(grid)], heat.columns) for grid in attribution.grids]
    additions = [_additions(details[grid_key(grid)]) * grid.weight for grid in attribution.grids]
    weights = torch.stack(additions, dim=1)
    steps = weights.sum(dim=1).nonzero()[:, 0].tolist()
    return Timeline(
        heat.text,
        heat.spans,
        heat.columns,
        attribution.image_size,
        attribution.image,
        steps=tuple(steps),
        count=kept.steps,
        timesteps=tuple(kept.timesteps[step] for step in steps) if kept.timesteps else (),
        maps=tuple(grid[steps] for grid in maps),
        weights=weights[steps],
        encoders=heat.encoders,
        frame=frame,
    )


def _over_steps(details: list[MapStack], columns: tuple[int, ...]) -> StepMaps:
    """The columns' sum at each step: the mean over heads, and over sites by additions."""
    size = (len(details[0].additions), *details[0].size)
    total = torch.zeros(size, dtype=torch.float32, device="cpu")
    for detail in details:
        maps = detail.maps[:, :, list(columns)].float().sum(dim=2).mean(dim=1)
        total += maps * _counts(detail)[:, None, None].float()
    return total / _additions(details).clamp(min=1.0)[:, None, None].float()


def _additions(details: list[MapStack]) -> torch.Tensor:
    return torch.stack([_counts(detail) for detail in details]).sum(dim=0)


def _counts(detail: MapStack) -> torch.Tensor:
    return torch.tensor(detail.additions, dtype=torch.float64, device="cpu")
