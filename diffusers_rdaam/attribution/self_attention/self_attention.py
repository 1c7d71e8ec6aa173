"""SelfAttention: which regions of one image attend to which."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, overload

import torch
from PIL import Image

from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.self_attention.diffusion import (
    ITERATIONS,
    THRESHOLD,
    check_diffusion,
    diffuse,
    shares,
)
from diffusers_rdaam.attribution.self_attention.segments import Segments, label, segment
from diffusers_rdaam.attribution.self_grid import SelfGrid, finest
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.checks import check_pixel
from diffusers_rdaam.geometry.exact import cpu_tensor
from diffusers_rdaam.geometry.grid import enlarge, pull_back
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, Region, RegionLike, as_region
from diffusers_rdaam.shapes import CellWeights, Column

Direction = Literal["to", "from"]
# What the values of the answers are.
RELATIVE = "attention, times that of a uniform distribution"
BoxLike = Any  # a Box, or four whole numbers
OutlineLike = Any  # a Polygon, or a list of (x, y) points


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """The image's attention to itself: from every region to every other.

    ``A[i, j]`` is the probability that position ``i`` attends to ``j``, mean over heads, sites and
    denoiser calls, of the rows of the prompt. All questions are in image pixels. All answers are a
    :class:`HeatMap`, whose values say how many times as strong the attention is as if it were the
    same everywhere: ``A`` times the number of positions, mean over the region.

    Two directions, by the argument ``direction``:

    * ``"to"`` (the default): **what attends to this region**. At every pixel, how much it attends
      to the region: ``A[:, region]``.
    * ``"from"``: **what this region attends to**. At every pixel, how much the region attends to
      it: ``A[region, :]``.

    The two agree but for rounding: ``region(a, direction="to").mass(b)`` is
    ``region(b, direction="from").mass(a)``.

    Args:
        grids: one for each size that was kept.
        image_size: height and width of the image in pixels.
        image: the image itself, where it was decoded.
    """

    grids: tuple[SelfGrid, ...] = field(repr=False)
    image_size: tuple[int, int]
    image: Image.Image | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.grids:
            raise InputError("Self-attention needs at least one grid.")

    def region(self, region: RegionLike, *, direction: Direction = "to") -> HeatMap:
        """The attention to or from a box, polygon or mask; each pixel counts by its share inside.

        Raises:
            RegionError: ``region`` is not a region, is empty, or lies outside the image.
            InputError: the direction is unknown.
        """
        checked = as_region(region)
        weights = checked.grid_weights(self.image_size, [grid.size for grid in self.grids])
        return self._answer(weights, direction, _name(checked))

    def box(self, box: BoxLike, *, direction: Direction = "to") -> HeatMap:
        """:meth:`region` of a box ``(left, top, right, bottom)`` in pixels, half-open."""
        return self.region(box if isinstance(box, Box) else Box(*box), direction=direction)

    def polygon(self, points: OutlineLike, *, direction: Direction = "to") -> HeatMap:
        """:meth:`region` of the inside of an outline of ``(x, y)`` points."""
        return self.polygons([points], direction=direction)

    def polygons(
        self,
        outlines: Iterable[OutlineLike],
        *,
        direction: Direction = "to",
    ) -> HeatMap:
        """:meth:`region` of all that lies inside of at least one of the outlines.

        Raises:
            RegionError: there is none, or one lies outside the image.
        """
        shapes = [o if isinstance(o, Polygon) else Polygon(_points(o)) for o in outlines]
        if not shapes:
            raise RegionError("polygons() needs at least one outline, a list of (x, y) points.")
        if len(shapes) == 1:
            return self.region(shapes[0], direction=direction)
        covered = torch.stack([shape.coverage(self.image_size) for shape in shapes])
        # A pixel on the edge of two has a part in each; together no more than the whole.
        union = covered.sum(dim=0).clamp(max=1.0)
        weights = Mask(union).grid_weights(self.image_size, [grid.size for grid in self.grids])
        return self._answer(weights, direction, f"{len(shapes)} polygons")

    def pixels(self, pixels: Any, *, direction: Direction = "to") -> HeatMap:
        """The attention to or from some pixels.

        Args:
            pixels: one as ``(x, y)``, or several; each counts as often as it is given.
            direction: as in :meth:`region`.

        Raises:
            RegionError: there is none, or one lies outside the image.
        """
        chosen = _pixels(pixels, self.image_size)
        name = f"pixel {chosen[0]}" if len(chosen) == 1 else f"{len(chosen)} pixels"
        weights = _point_weights(chosen, self.image_size)
        return self._answer([_pull_back(weights, grid) for grid in self.grids], direction, name)

    def guided(self, heat_map: HeatMap | Any, *, direction: Direction = "to") -> HeatMap:
        """The attention to or from where a heat map is, each pixel by its value.

        Args:
            heat_map: of the image's size, such as ``attribution.word("cat")``; or its values.
            direction: as in :meth:`region`.

        Raises:
            InputError: it is of another size, not finite, or sums to nothing.
        """
        values = heat_map.values if isinstance(heat_map, HeatMap) else cpu_tensor(heat_map)
        values = values.detach().cpu().float()
        if tuple(values.shape) != self.image_size:
            raise InputError(
                f"A guide has a value for each pixel, (height, width) {self.image_size}; this is "
                f"{tuple(values.shape)}. Resize it: heat_map.resize({self.image_size})."
            )
        total = float(values.double().sum())
        if not math.isfinite(total) or total <= 0.0:
            raise InputError(f"A guide's values are finite and sum to more than 0, not {total:g}.")
        weights = [_pull_back(values / total, grid) for grid in self.grids]
        name = repr(heat_map.text) if isinstance(heat_map, HeatMap) else "a guide"
        return self._answer(weights, direction, name)

    @overload
    def diffused(
        self, pixel: tuple[int, int], *, iterations: int = ..., threshold: float = ...
    ) -> HeatMap: ...

    @overload
    def diffused(
        self, pixel: None = None, *, iterations: int = ..., threshold: float = ...
    ) -> Segments: ...

    def diffused(
        self,
        pixel: tuple[int, int] | None = None,
        *,
        iterations: int = ITERATIONS,
        threshold: float = THRESHOLD,
    ) -> HeatMap | Segments:
        """Spread the attention to a pixel over the object that it is of; or segment the image.

        Attention to the pixel is cut below ``threshold`` (on the map stretched from 0 to 1), then
        replaced by the attention to what is left, and so on. Without a pixel this is done for
        points all over the image, and those whose maps end alike make a segment. On the finest of
        the grids.

        Args:
            pixel: ``(x, y)``; all if not given.
            iterations: how often.
            threshold: in [0, 1).

        Raises:
            RegionError: the pixel lies outside the image.
            InputError: ``iterations`` or ``threshold`` is out of range.
        """
        check_diffusion(iterations, threshold)
        grid = self.finest
        if pixel is None:
            maps = segment(grid, iterations=iterations, threshold=threshold)
            return Segments(label(maps, grid.size, self.image_size), self.image)
        chosen = _pixels(pixel, self.image_size)
        # Bicubic weights are below 0 in places, and there is no attention to less than nothing.
        weights = _pull_back(_point_weights(chosen, self.image_size), grid).clamp(min=0.0)
        start = shares(weights.flatten()[None])
        cells = diffuse(grid, start, iterations=iterations, threshold=threshold)
        values = enlarge(cells.view(grid.size) * grid.positions, *self.image_size)
        return HeatMap(
            values, f"diffused from pixel {chosen[0]}", image=self.image, quantity=RELATIVE
        )

    @property
    def finest(self) -> SelfGrid:
        """The grid with the most positions; of layers that were kept separately, their mean."""
        return finest(self.grids)

    def saliency(self) -> HeatMap:
        """The attention that each pixel gets from the whole image, as one map without words.

        ``s_j = sum over i of A[i, j]``, the mean over the positions ``i`` times their number: 1
        where a pixel gets as much as it would of a uniform distribution, and 1 in the mean. OVAM's
        scalar self-attention map sums over the other axis, which is 1 everywhere.
        """
        even = [_even(grid) for grid in self.grids]
        return replace(self._answer(even, "from", "the whole image"), text="saliency")

    @property
    def nbytes(self) -> int:
        """Bytes of all grids."""
        return sum(grid.nbytes for grid in self.grids)

    def _answer(self, weights: Iterable[torch.Tensor], direction: Direction, name: str) -> HeatMap:
        if direction not in get_args(Direction):
            raise InputError(
                f"{direction!r} is not a direction. 'to': what attends to this region; 'from': "
                "what this region attends to."
            )
        height, width = self.image_size
        values = torch.zeros(height, width, dtype=torch.float32, device="cpu")
        total = sum(grid.additions for grid in self.grids)
        for grid, part in zip(self.grids, weights, strict=True):
            row = part.flatten()[None]
            cells = grid.attention_to(row) if direction == "to" else grid.attention_from(row)
            # All (site, call) pairs weigh the same, as in the text's maps.
            scale = grid.positions * grid.additions / total
            values += enlarge(cells.view(grid.size) * scale, height, width)
        text = f"attention {direction} {name}"
        return HeatMap(values, text, image=self.image, quantity=RELATIVE)

    def _repr_html_(self) -> str:
        """The attention that each pixel gets from the whole image, with its scale."""
        from html import escape

        shown = self.saliency()._repr_html_()
        return f"<div><p>{escape(repr(self))}</p>{shown}</div>"

    def __repr__(self) -> str:
        grids = ", ".join(f"{grid.size[1]}x{grid.size[0]}" for grid in self.grids)
        height, width = self.image_size
        size = f"{self.nbytes / 1e6:.2f} MB"
        return f"SelfAttention(image {width}x{height}, grids {grids}, {size})"


def _name(region: Region) -> str:
    if isinstance(region, Box):
        return f"box {region.as_tuple()}"
    return f"a {type(region).__name__.lower()}"


def _points(outline: Any) -> tuple[tuple[float, float], ...]:
    region = as_region(list(outline) if isinstance(outline, Iterable) else outline)
    if not isinstance(region, Polygon):
        raise RegionError(
            f"{str(outline)[:80]} is not an outline. A polygon is a list of (x, y) points in "
            "pixels."
        )
    return region.points


def _pixels(given: Any, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The pixels as ``(x, y)``, each inside the image."""
    items = list(given) if isinstance(given, Iterable) else [given]
    if len(items) == 2 and not any(isinstance(item, Iterable) for item in items):
        items = [tuple(items)]
    if not items:
        raise RegionError("There is not a pixel among those given. A pixel is (x, y).")
    chosen = []
    for item in items:
        try:
            x, y = (operator.index(number) for number in item)
        except (TypeError, ValueError):
            raise RegionError(
                f"{str(item)[:80]} is not a pixel. A pixel is (x, y), two whole numbers."
            ) from None
        check_pixel(x, y, size)
        chosen.append((x, y))
    return chosen


def _point_weights(pixels: list[tuple[int, int]], size: tuple[int, int]) -> Column:
    weights = torch.zeros(size, dtype=torch.float32, device="cpu")
    for x, y in pixels:
        weights[y, x] += 1.0 / len(pixels)
    return weights


def _pull_back(weights: Column, grid: SelfGrid) -> CellWeights:
    return pull_back(weights, *grid.size)


def _even(grid: SelfGrid) -> CellWeights:
    """Weights of a grid's cells that are all the same, and sum to 1."""
    return torch.full(grid.size, 1.0 / grid.positions, dtype=torch.float32, device="cpu")
