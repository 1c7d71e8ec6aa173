"""Box, Polygon and Mask: parts of an image, in pixels, as area weights.

Every region answers two questions: how its weights (which sum to one) look on a grid, and which
share of each pixel it covers. A mean over a region is then one dot product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.checks import (
    BOX_FORM,
    mask_tensor,
    on_one_line,
    polygon_points,
    whole_number,
)
from diffusers_rdaam.geometry.fill import filled
from diffusers_rdaam.geometry.grid import pull_back, pull_back_box
from diffusers_rdaam.shapes import CellWeights, Column


@dataclass(frozen=True)
class Box:
    """A box ``(left, top, right, bottom)`` in whole pixels, half-open as in PIL.

    Raises:
        RegionError: not four whole numbers, or empty, or inverted.
    """

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        edges = []
        for name in ("left", "top", "right", "bottom"):
            edges.append(whole_number(getattr(self, name), name))
        for name, edge in zip(("left", "top", "right", "bottom"), edges, strict=True):
            object.__setattr__(self, name, edge)
        left, top, right, bottom = edges
        if left >= right or top >= bottom:
            kind = "empty" if left == right or top == bottom else "inverted"
            raise RegionError(f"The box {tuple(edges)} is {kind}. A box is {BOX_FORM}.")

    def as_tuple(self) -> tuple[int, int, int, int]:
        """``(left, top, right, bottom)``."""
        return (self.left, self.top, self.right, self.bottom)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.right - self.left) * (self.bottom - self.top)

    def edges(self) -> list[tuple[float, float]]:
        """The corners as ``(x, y)``, in order, for drawing."""
        left, top, right, bottom = (float(edge) for edge in self.as_tuple())
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    def inside(self, size: tuple[int, int]) -> Box:
        """The part inside an image of ``size`` (height, width).

        Raises:
            RegionError: nothing of the box is inside.
        """
        height, width = size
        left, right = max(self.left, 0), min(self.right, width)
        top, bottom = max(self.top, 0), min(self.bottom, height)
        if left >= right or top >= bottom:
            raise RegionError(
                f"The box {self.as_tuple()} lies outside the image, which is {width} pixels wide "
                f"and {height} high. Give a box that overlaps (0, 0, {width}, {height})."
            )
        return Box(left, top, right, bottom)

    def coverage(self, size: tuple[int, int]) -> Column:
        """1 inside, 0 outside, as ``(height, width)``."""
        left, top, right, bottom = self.inside(size).as_tuple()
        pixels = torch.zeros(size, dtype=torch.float32, device="cpu")
        pixels[top:bottom, left:right] = 1.0
        return pixels

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        box = self.inside(size).as_tuple()
        return [pull_back_box(box, size, grid) for grid in grids]


@dataclass(frozen=True, eq=False)
class Mask:
    """A part of the image as one weight per pixel: boolean, or floats from 0 to 1.

    Args:
        weights: ``(height, width)``, the image's size; a PIL image, numpy array or tensor. An image
            in mode ``L`` counts 0 as outside and 255 as inside.

    Raises:
        RegionError: wrong number of axes or type, values outside [0, 1] or not finite, all zero.
    """

    weights: Column = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", mask_tensor(self.weights))

    @property
    def outside(self) -> Mask:
        """What the mask leaves out: one minus the weights. ``~mask`` is the same.

        Raises:
            RegionError: it leaves out nothing.
        """
        if bool((self.weights == 1.0).all()):
            raise RegionError("The mask covers the whole image, so there is nothing outside of it.")
        return Mask(1.0 - self.weights)

    def __invert__(self) -> Mask:
        return self.outside

    def edges(self) -> list[tuple[float, float]]:
        """The corners of the box around the mask, for drawing."""
        rows, columns = (self.weights > 0).any(dim=1), (self.weights > 0).any(dim=0)
        top, bottom = int(rows.nonzero()[0]), int(rows.nonzero()[-1]) + 1
        left, right = int(columns.nonzero()[0]), int(columns.nonzero()[-1]) + 1
        return Box(left, top, right, bottom).edges()

    def coverage(self, size: tuple[int, int]) -> Column:
        """The weights, after a check that they are of the image's size."""
        if tuple(self.weights.shape) != size:
            (height, width), (wanted_height, wanted_width) = self.weights.shape, size
            raise RegionError(
                f"The mask is {width} pixels wide and {height} high, the image "
                f"{wanted_width} wide and {wanted_height} high. Give a mask of the image's size."
            )
        return self.weights

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        return _pull_back_coverage(self.coverage(size), grids)


@dataclass(frozen=True)
class Polygon:
    """The inside of a closed outline, as ``(x, y)`` points in pixels.

    Pixels on the edge count with the share that is inside. Where the outline crosses itself, the
    even-odd rule says what is inside.

    Raises:
        RegionError: fewer than 3 points, a point that is not two finite numbers, no area.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", polygon_points(self.points))
        if on_one_line(self.points):
            raise RegionError("The polygon has no area: its points lie on one line.")

    def edges(self) -> list[tuple[float, float]]:
        """The points, for drawing."""
        return list(self.points)

    def coverage(self, size: tuple[int, int]) -> Column:
        """The share of each pixel that is inside, as ``(height, width)``."""
        pixels = filled(self.points, size)
        if not bool(pixels.any()):
            height, width = size
            raise RegionError(
                f"The polygon lies outside the image, which is {width} pixels wide and {height} "
                "high, or is too thin to cover any of it. Points are (x, y) in image pixels."
            )
        return pixels

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        return _pull_back_coverage(self.coverage(size), grids)


Region: TypeAlias = Box | Polygon | Mask
RegionLike = Any  # what as_region takes: a Region, 4 numbers, points, an array or an image


def as_region(value: RegionLike) -> Region:
    """A region from what a user has at hand.

    Four numbers are a box, three or more pairs a polygon, a two-dimensional array or tensor or a
    PIL image a mask.

    Raises:
        RegionError: ``value`` is none of these.
    """
    if isinstance(value, (Box, Polygon, Mask)):
        return value
    if isinstance(value, Image.Image):
        return Mask(value)  # type: ignore[arg-type]  # converted on construction
    if isinstance(value, (np.ndarray, torch.Tensor)):
        if value.ndim == 1:
            return as_region(value.tolist())
        if value.ndim == 2 and value.shape[1] == 2 and value.shape[0] >= 3:
            return Polygon(tuple(map(tuple, value.tolist())))
        return Mask(value)  # type: ignore[arg-type]  # converted on construction
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        items = list(value)
        if items and all(
            isinstance(item, Sequence) and not isinstance(item, str) for item in items
        ):
            return Polygon(tuple(tuple(item) for item in items))
        if len(items) != 4:
            raise RegionError(
                f"A box has 4 numbers, this has {len(items)}: {value!r}. A box is {BOX_FORM}; a "
                "polygon is a list of (x, y) points."
            )
        return Box(*items)
    raise RegionError(
        f"{value!r} is no region. Give a box {BOX_FORM}, a list of (x, y) points, or a mask of the "
        "image's size."
    )


def _pull_back_coverage(coverage: Column, grids: list[tuple[int, int]]) -> list[CellWeights]:
    weights = coverage / coverage.sum()
    return [pull_back(weights, height, width) for height, width in grids]
