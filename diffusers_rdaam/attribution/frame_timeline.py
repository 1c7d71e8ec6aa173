"""FrameTimeline: one word over the frames of a video, as pictures and as scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.attribution.choosing import chosen_numbers
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.region_words import sum_columns
from diffusers_rdaam.attribution.timeline import GIF_SIDE, SHOWN_FRAMES, STRIP_SIDE
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.pictures import write_png
from diffusers_rdaam.geometry.region import RegionLike, as_region
from diffusers_rdaam.shapes import Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class FrameTimeline:
    """One word over the frames of a video: a film strip, an animation, scores.

    It holds the maps on their grids, as the video does; pictures are made when asked for.

    Args:
        text, columns: the word, and the columns that are summed.
        parts: the record of each latent frame.
        mapping: which of them each frame is of.
        images: the frames, where they were decoded; else empty.
        numbers: of the frames in their video.
    """

    text: str
    columns: tuple[int, ...]
    parts: Sequence[Record] = field(repr=False)
    mapping: FrameMapping
    images: tuple[Image.Image, ...] = field(default=(), repr=False)
    numbers: tuple[int, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.mapping)

    def __getitem__(self, which: slice) -> FrameTimeline:
        """The timeline of some of the frames.

        Raises:
            InputError: there are none of them.
        """
        return self._take(list(chosen_numbers(which, len(self), "frames")))

    @property
    def labels(self) -> tuple[str, ...]:
        """Such as ``"frame 7, latent frame 3"``; counted from 1, as people do."""
        numbers, latent = self.numbers or tuple(range(len(self))), self.mapping.latent
        if numbers == latent:
            return tuple(f"frame {number + 1}" for number in numbers)
        return tuple(
            f"frame {number + 1}, latent frame {one + 1}"
            for number, one in zip(numbers, latent, strict=True)
        )

    def mass(self, region: RegionLike) -> list[float]:
        """The word's score in a region of each frame.

        Raises:
            RegionError: ``region`` is not a region of this video's frames.
        """
        checked = as_region(region, image_size=self.parts[0].image_size)
        latent = self.mapping.latent
        scores = {
            part: sum_columns(self.parts[part].scores(checked), self.columns)
            for part in dict.fromkeys(latent)
        }
        return [scores[part] for part in latent]

    def film_strip(self, *, columns: int | None = None, every: int = 1) -> Image.Image:
        """A picture of every ``every``-th frame and the last, in rows of ``columns`` (5 at most).

        One colour scale for all: the lowest and the highest probability among the frames shown, as
        the bar below the pictures says.

        Raises:
            InputError: ``columns`` or ``every`` is under 1.
        """
        from diffusers_rdaam.drawing.overlay import OPACITY, scale_colours
        from diffusers_rdaam.drawing.timeline import film_strip

        shown = self._every(every)
        frames, scale = shown._frames(STRIP_SIDE)
        colours = scale_colours(opacity=OPACITY if self.images else None)
        return film_strip(
            frames, shown.labels, columns=columns, title=self.text, scale=scale, colours=colours
        )

    def gif(self, path: str | Path, *, duration: float = 0.15, every: int = 1) -> Path:
        """Write an animation that repeats; one colour scale for all frames. Returns its path.

        Args:
            path: of the file.
            duration: seconds that a frame is shown.
            every: as in :meth:`film_strip`.

        Raises:
            InputError: the file cannot be written, or a number is out of range.
        """
        from diffusers_rdaam.drawing.timeline import save_gif

        shown = self._every(every)
        frames, _ = shown._frames(GIF_SIDE)
        return save_gif(frames, shown.labels, Path(path), duration=duration)

    def save(self, path: str | Path) -> Path:
        """Write the film strip (``.png``) or the animation (``.gif``); returns the path.

        Raises:
            InputError: another ending, or the file cannot be written.
        """
        target = Path(path)
        ending = target.suffix.lower()
        if ending == ".gif":
            return self.gif(target)
        if ending != ".png":
            raise InputError(
                "A word over frames is saved as .png (a film strip) or .gif (an animation); got "
                f"{target.name!r}."
            )
        write_png(target, self.film_strip(), "film strip")
        return target

    def slider(self, *, every: int = 1) -> str:
        """An HTML page with a slider over the frames: all in one text, to be written to a file."""
        from diffusers_rdaam.drawing.slider import slider_html

        shown = self._every(every)
        frames, _ = shown._frames(GIF_SIDE)
        return slider_html(frames, shown.labels, self.text)

    def plot(self, region: RegionLike | None = None) -> Figure:
        """A matplotlib figure: the score at each frame, in a region and in the whole frame."""
        from diffusers_rdaam.drawing.figure import lines_figure

        height, width = self.parts[0].image_size
        lines = {"whole frame": self.mass((0, 0, width, height))}
        if region is not None:
            lines = {"region": self.mass(region), **lines}
        numbers = self.numbers or range(len(self))
        return lines_figure([number + 1 for number in numbers], lines, self.text, axis="frame")

    def _every(self, every: int) -> FrameTimeline:
        check_count(every, "every=")
        return self._take([*range(0, len(self) - 1, every), len(self) - 1])

    def _take(self, frames: list[int]) -> FrameTimeline:
        numbers = self.numbers or tuple(range(len(self)))
        return replace(
            self,
            mapping=self.mapping.take(frames),
            images=tuple(self.images[frame] for frame in frames) if self.images else (),
            numbers=tuple(numbers[frame] for frame in frames),
        )

    def _frames(self, side: int) -> tuple[list[Image.Image], tuple[float, float]]:
        """The pictures, their longer side ``side``, and the scale that they share."""
        from diffusers_rdaam.drawing.timeline import coloured_frames

        first = self.parts[0]
        height, width = first.image_size
        # Not below the finest grid: there is no anti-aliasing in enlarging.
        factor = max([side, *(max(grid.size) for grid in first.grids)]) / max(height, width)
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        latent = self.mapping.latent
        maps: dict[int, Column] = {
            part: self.parts[part].pixels(self.columns, size=size) for part in dict.fromkeys(latent)
        }
        return coloured_frames([maps[part] for part in latent], self.images or None)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import picture

        # The first and the last are always shown.
        strip = self.film_strip(every=max(1, -(-(len(self) - 1) // (SHOWN_FRAMES - 1))))
        return picture(strip, repr(self), limit=max(strip.size))

    def __repr__(self) -> str:
        height, width = self.parts[0].image_size
        scores = self.mass((0, 0, width, height))
        return (
            f"FrameTimeline({self.text!r}, {len(self)} frames, {width}x{height} pixels, mean "
            f"{scores[0]:.3g} at the first to {scores[-1]:.3g} at the last)"
        )
