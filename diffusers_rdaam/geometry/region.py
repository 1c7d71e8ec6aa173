"""Box, Polygon and Mask: parts of an image, in pixels, as area weights.

Every region answers two questions: its weights (which sum to one) on a grid, and the share of each
pixel that it covers. A mean over a region is then one dot product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.checks import (
    BOX_FORM,
    Edges,
    Number,
    box_edge,
    check_order,
    may_be_normalized,
    on_one_line,
    outside_image,
    polygon_points,
    refuse_normalized,
    shown,
)
from diffusers_rdaam.geometry.fill import filled_part, placed
from diffusers_rdaam.geometry.grid import pixel_shares, pull_back_box, pull_back_part
from diffusers_rdaam.geometry.masks import as_array, mask_tensor
from diffusers_rdaam.geometry.run_lengths import RunLengths, mask_of_run_lengths, run_lengths
from diffusers_rdaam.shapes import CellWeights, Column

_NO_AREA = "The polygon has no area: its points lie on one line."
_SIDES = ("left", "top", "right", "bottom")
# Thinner boxes are most often of another unit, and their weights would be rounding.
_THINNEST = 1e-4


@dataclass(frozen=True)
class Box:
    """A box ``(left, top, right, bottom)`` in pixels, half-open as in PIL.

    Edges may have fractions, as detectors give them: a pixel that the box covers in part counts by
    the share of its area that is inside. A box is a sequence of its four edges, so that
    ``image.crop(box)`` and ``left, top, right, bottom = box`` work.

    Raises:
        RegionError: not four finite numbers, or empty, or inverted, or all fractions in 0 to 1,
            which are shares of the image and not pixels.
    """

    left: Number
    top: Number
    right: Number
    bottom: Number

    def __post_init__(self) -> None:
        given = [getattr(self, name) for name in _SIDES]
        edges = [box_edge(value, name) for value, name in zip(given, _SIDES, strict=True)]
        refuse_normalized(given)
        check_order((edges[0], edges[1], edges[2], edges[3]))
        for name, edge in zip(_SIDES, edges, strict=True):
            object.__setattr__(self, name, edge)

    @classmethod
    def from_xywh(cls, x: Number, y: Number, width: Number, height: Number) -> Box:
        """A box from its upper left corner and its size, as COCO writes boxes."""
        given = (x, y, width, height)
        left, top, across, down = (
            box_edge(value, name)
            for value, name in zip(given, ("x", "y", "width", "height"), strict=True)
        )
        refuse_normalized(given)
        return cls(left, top, left + across, top + down)

    def as_tuple(self) -> Edges:
        """``(left, top, right, bottom)``."""
        return (self.left, self.top, self.right, self.bottom)

    def __iter__(self) -> Iterator[Number]:
        return iter(self.as_tuple())

    def __len__(self) -> int:
        return 4

    @overload
    def __getitem__(self, index: int) -> Number: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Number, ...]: ...

    def __getitem__(self, index: int | slice) -> Number | tuple[Number, ...]:
        return self.as_tuple()[index]

    @property
    def area(self) -> Number:
        """Pixels inside."""
        return (self.right - self.left) * (self.bottom - self.top)

    def edges(self) -> list[tuple[Number, Number]]:
        """The corners as ``(x, y)``, in order, for drawing."""
        left, top, right, bottom = self.as_tuple()
        return [(left, top), (right, top), (right, bottom), (left, bottom)]

    def inside(self, size: tuple[int, int]) -> Box:
        """The part inside an image of ``size`` (height, width).

        Raises:
            RegionError: nothing of the box is inside.
        """
        height, width = size
        left, right = max(self.left, 0), min(self.right, width)
        top, bottom = max(self.top, 0), min(self.bottom, height)
        if left < right and top < bottom and min(right - left, bottom - top) < _THINNEST:
            raise RegionError(
                f"Of the box {self.as_tuple()} less than {_THINNEST:g} pixels lie inside the image "
                f"on one side. A box is {BOX_FORM}."
            )
        if left >= right or top >= bottom:
            raise RegionError(
                f"{outside_image(f'The box {self.as_tuple()}', size)}. Give a box that overlaps "
                f"(0, 0, {width}, {height})."
            )
        # Not by the constructor: what is left in the first pixel is no box in shares of the image.
        part = object.__new__(Box)
        for name, edge in zip(_SIDES, (left, top, right, bottom), strict=True):
            object.__setattr__(part, name, edge)
        return part

    def coverage(self, size: tuple[int, int]) -> Column:
        """The share of each pixel that is inside, as ``(height, width)``."""
        left, top, right, bottom = self.inside(size).as_tuple()
        return torch.outer(pixel_shares(top, bottom, size[0]), pixel_shares(left, right, size[1]))

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        box = self.inside(size).as_tuple()
        return [pull_back_box(box, size, grid) for grid in grids]


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """A part of the image as one weight per pixel, from 0 (outside) to 1 (inside).

    Args:
        weights: ``(height, width)``, the image's size; a PIL image of any mode, a list, an array or
            a tensor on any device. Booleans, 0 and 1, and 0 and 255 (65535 in 16 bits) say outside
            and inside; floats from 0 to 1 say which share of the pixel is inside. Axes of length 1
            before and after, and channels that are all the same, do not matter.

    Raises:
        RegionError: wrong number of axes or type, values that are none of these or not finite, all
            zero, or an image with more than two levels or in colour, such as a photograph.
    """

    weights: Column

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", mask_tensor(self.weights))

    @property
    def outside(self) -> Mask:
        """The rest of the image: one minus the weights. ``~mask`` is the same.

        Raises:
            RegionError: it leaves out nothing.
        """
        if bool((self.weights == 1.0).all()):
            raise RegionError("The mask covers the whole image, so there is nothing outside of it.")
        return Mask(1.0 - self.weights)

    def __invert__(self) -> Mask:
        return self.outside

    @classmethod
    def from_coco(cls, form: Mapping[str, Any]) -> Mask:
        """A mask from COCO's run-length form ``{"size": [h, w], "counts": […]}``, uncompressed.

        Raises:
            RegionError: the form is not such a mapping, or its counts do not fill its size.
        """
        return cls(mask_of_run_lengths(form).float())

    def coco(self) -> RunLengths:
        """The mask in COCO's run-length form: pixels of which at least half is inside.

        ``pycocotools.mask.frPyObjects(form, *form["size"])`` compresses it.
        """
        return run_lengths(self.weights >= 0.5)

    def image(self) -> Image.Image:
        """The mask as a grey image: 255 inside, 0 outside, in between where a part is inside."""
        return Image.fromarray((self.weights * 255.0).round().byte().numpy())

    def __repr__(self) -> str:
        height, width = self.weights.shape
        return f"Mask({width}x{height} pixels, {float(self.weights.mean()):.1%} inside)"

    def edges(self) -> list[tuple[Number, Number]]:
        """The corners of the box around the mask, for drawing."""
        rows, columns = (self.weights > 0).any(dim=1), (self.weights > 0).any(dim=0)
        top, bottom = int(rows.nonzero()[0]), int(rows.nonzero()[-1]) + 1
        left, right = int(columns.nonzero()[0]), int(columns.nonzero()[-1]) + 1
        return Box(left, top, right, bottom).edges()

    def coverage(self, size: tuple[int, int]) -> Column:
        """The weights, after a check that they are of the image's size."""
        if tuple(self.weights.shape) != size:
            (height, width), (wanted_height, wanted_width) = self.weights.shape, size
            hint = ""
            if (width, height) == size:
                hint = " Its axes are (height, width): transpose it."
            elif width == 4:
                hint = " If these are boxes, give them in pixels to regions()."
            raise RegionError(
                f"The mask is {width} pixels wide and {height} high, the image {wanted_width} wide "
                f"and {wanted_height} high. Give a mask of the image's size.{hint}"
            )
        return self.weights

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        coverage = self.coverage(size)
        # numpy's maximum takes a fraction of the time of torch's any().
        pixels = coverage.numpy()
        top, bottom = _extent(pixels.max(axis=1))
        left, right = _extent(pixels[top:bottom].max(axis=0))
        part = coverage[top:bottom, left:right]
        return _pull_back_part((top, left), part, size, grids)


@dataclass(frozen=True)
class Polygon:
    """The inside of a closed outline, as ``(x, y)`` points in pixels.

    Pixels on the edge count with the share that is inside. Where the outline crosses itself, the
    even-odd rule says what is inside. Whole numbers are corners of pixels, as in boxes; a contour
    of OpenCV goes through the middles of the outermost pixels, which are half a pixel further in.

    Raises:
        RegionError: fewer than 3 points, a point that is not two finite numbers, no area, or all
            points in 0 to 1, which are shares of the image and not pixels.
    """

    points: tuple[tuple[Number, Number], ...]

    def __post_init__(self) -> None:
        given = self.points
        if isinstance(given, (np.ndarray, torch.Tensor)):
            array = as_array(given)
            # A contour of OpenCV is (n, 1, 2).
            given = array.reshape(-1, 2).tolist() if array.shape[1:] == (1, 2) else array.tolist()
        object.__setattr__(self, "points", polygon_points(given))
        if on_one_line(self.points):
            raise RegionError(_NO_AREA)
        if may_be_normalized(self.points):
            refuse_normalized((number for point in given for number in point), what="polygon")

    def edges(self) -> list[tuple[Number, Number]]:
        """The points, for drawing."""
        return list(self.points)

    def coverage(self, size: tuple[int, int]) -> Column:
        """The share of each pixel that is inside, as ``(height, width)``."""
        return placed(*self._part(size), size)

    def grid_weights(
        self, size: tuple[int, int], grids: list[tuple[int, int]]
    ) -> list[CellWeights]:
        """The weights of the cells of each grid."""
        return _pull_back_part(*self._part(size), size, grids)

    def _part(self, size: tuple[int, int]) -> tuple[tuple[int, int], CellWeights]:
        corner, part = filled_part(self.points, size)
        # numpy's maximum takes a fraction of the time of torch's any().
        if not part.numpy().max() > 0.0:
            raise RegionError(
                f"{outside_image('The polygon', size)}, or is too thin to cover any of it. Points "
                "are (x, y) in image pixels."
            )
        return corner, part


Region: TypeAlias = Box | Polygon | Mask
RegionLike = Any  # what as_region takes: a Region, 4 numbers, points, an array or an image


def as_region(value: RegionLike, *, image_size: tuple[int, int] | None = None) -> Region:
    """A region from any form that a user may have.

    Four numbers are a box; three or more pairs, or a contour of OpenCV ``(n, 1, 2)``, a polygon;
    an image, an array of the image's size, or COCO's run-length form, a mask. Numbers may be of any
    type and on any device.

    Args:
        value: the user's form of the region.
        image_size: height and width of the image, where they are known; for errors.

    Raises:
        RegionError: ``value`` is none of these, or several.
    """
    if isinstance(value, (Box, Polygon, Mask)):
        return value
    if isinstance(value, Image.Image):
        return _mask(value)
    if isinstance(value, Mapping) and {"size", "counts"} <= value.keys():
        return Mask.from_coco(value)
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        return _from_array(as_array(value), value, image_size)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return _from_items(list(value), value, image_size)
    raise RegionError(
        f"{shown(value)} is not a region. Give a box {BOX_FORM}, a list of (x, y) points, or a "
        "mask of the image's size."
    )


def _from_array(array: np.ndarray, value: Any, image_size: tuple[int, int] | None) -> Region:
    if array.ndim == 1:
        return _from_items(array.tolist(), array.tolist(), image_size)
    if array.dtype.kind != "b" and array.ndim > 1 and array.size:
        if array.ndim == 3 and array.shape[1:] == (1, 2):
            array = array[:, 0]
        is_mask = bool((array >= 0).all() and (array <= 1).all())
        if array.ndim == 2 and array.shape[1] == 2 and (len(array) >= 3 or not is_mask):
            return _polygon(array.tolist(), image_size)
        if array.ndim == 2 and array.shape[1] == 4 and not is_mask:
            if len(array) == 1:
                return _from_items(array[0].tolist(), value, image_size)
            raise _several(len(array), "boxes")
    return _mask(array)


def _from_items(items: list[Any], value: Any, image_size: tuple[int, int] | None) -> Region:
    if items and all(isinstance(item, (Box, Polygon, Mask, Image.Image)) for item in items):
        raise _several(len(items), "regions")
    if items and all(map(_is_nested, items)):
        return _from_nested(items, image_size)
    if len(items) != 4:
        raise RegionError(
            f"A box has 4 numbers, this has {len(items)}: {shown(value)}. A box is {BOX_FORM}; a "
            "polygon is a list of (x, y) points."
        )
    edges = [box_edge(item, name) for item, name in zip(items, _SIDES, strict=True)]
    refuse_normalized(items, image_size)
    return Box(*edges)


def _from_nested(items: list[Any], image_size: tuple[int, int] | None) -> Region:
    """A polygon, a mask as a list of rows, or several regions, from a list of lists."""
    inner = [_items(item) for item in items]
    if all(len(item) == 1 and _is_pair(item[0]) for item in inner):
        return _polygon([_items(item[0]) for item in inner], image_size)
    if all(map(_is_outline, inner)):
        raise _several(len(inner), "regions")
    widths = {len(item) for item in inner}
    if widths == {4}:
        if len(inner) == 1:
            return _from_items(inner[0], inner[0], image_size)
        raise _several(len(inner), "boxes")
    if len(widths) == 1 and min(widths) > 4:
        return _mask(items)
    return _polygon(items, image_size)


def _mask(value: Any) -> Mask:
    """A mask of what is checked and converted here, and not by the constructor a second time."""
    mask = object.__new__(Mask)
    object.__setattr__(mask, "weights", mask_tensor(value))
    return mask


def _is_pair(value: Any) -> bool:
    return _is_nested(value) and len(value) == 2 and not any(map(_is_nested, value))


def _is_outline(points: list[Any]) -> bool:
    return bool(points) and all(
        _is_pair(point) or (_is_nested(point) and len(point) == 1 and _is_pair(_items(point)[0]))
        for point in points
    )


def _polygon(points: list[Any], image_size: tuple[int, int] | None) -> Polygon:
    points = list(map(tuple, points))
    checked = polygon_points(points)
    if on_one_line(checked):
        raise RegionError(_NO_AREA)
    if may_be_normalized(checked):
        refuse_normalized((x for point in points for x in point), image_size, what="polygon")
    # Not by the constructor, which would check all of it a second time.
    polygon = object.__new__(Polygon)
    object.__setattr__(polygon, "points", checked)
    return polygon


def _several(count: int, kind: str) -> RegionError:
    return RegionError(
        f"These are {count} {kind}, and one region is needed here. Give them one by one, or all "
        "to attribution.regions([…]), which answers each."
    )


def _is_nested(item: Any) -> bool:
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim > 0
    return isinstance(item, Sequence) and not isinstance(item, (str, bytes))


def _items(value: Any) -> Any:
    """A list of what a list, array or tensor holds; anything else as it is."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return as_array(value).tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _pull_back_part(
    corner: tuple[int, int], part: CellWeights, size: tuple[int, int], grids: list[tuple[int, int]]
) -> list[CellWeights]:
    """The weights of each grid's cells, from the shares of the pixels of a part of the image."""
    sizes = tuple(dict.fromkeys(grids))  # each once: two streams have grids of one size
    cells = pull_back_part(part, corner, size, sizes)
    total = part.sum()
    found = {size: weights / total for size, weights in zip(sizes, cells, strict=True)}
    return [found[grid] for grid in grids]


def _extent(highest: np.ndarray) -> tuple[int, int]:
    """The first and, plus one, the last of the rows or columns that have a part inside."""
    inside = np.flatnonzero(highest)
    return int(inside[0]), int(inside[-1]) + 1
