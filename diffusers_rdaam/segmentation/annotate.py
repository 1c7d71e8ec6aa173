"""Masks from boxes and points: drawn by a person, or found by attention, filled by a segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.drawing.pictures import ImageLike, as_picture
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.region import Box, as_region
from diffusers_rdaam.segmentation.label_map import BACKGROUND, Segmentation
from diffusers_rdaam.shapes import BinaryMask

Point = tuple[float, float]


class Segmenter(Protocol):
    """What makes a mask of a box, a point, or both: any function of this form, or a SAM."""

    def __call__(self, image: Image.Image, box: Box | None, point: Point | None) -> Any:
        """The mask ``(height, width)`` of the object, booleans or numbers from 0 to 1."""


def box_segmenter(image: Image.Image, box: Box | None, point: Point | None) -> BinaryMask:
    """The box itself as the mask, where there is no better segmenter.

    Raises:
        InputError: there is a point alone.
    """
    if box is None:
        raise InputError(
            "A point alone is not an area. Give a box, or a segmenter= such as "
            "SamSegmenter.from_pretrained(…)."
        )
    return box.coverage((image.height, image.width)) >= 0.5


@dataclass(frozen=True)
class AnnotatedObject:
    """An object that somebody marked: its class, and a box, a point, or both, in image pixels."""

    name: str
    box: tuple[float, ...] | None = None
    point: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Annotations:
    """The objects of one image, as :func:`read_annotations` reads them.

    Args:
        objects: in the order in which they were marked.
        names: of all classes.
        size: height and width of the image.
    """

    objects: tuple[AnnotatedObject, ...]
    names: tuple[str, ...]
    size: tuple[int, int]

    def __repr__(self) -> str:
        height, width = self.size
        return f"Annotations({len(self.objects)} objects on an image of {width}x{height} pixels)"


def annotate(
    image: ImageLike,
    boxes: Mapping[str, Any] | Annotations | None = None,
    points: Mapping[str, Any] | None = None,
    *,
    segmenter: Segmenter = box_segmenter,
    names: Sequence[str] | None = None,
) -> Segmentation:
    """A label map from boxes and points that somebody drew, such as the target of a token.

    Args:
        image: a PIL image, an array, or a path.
        boxes: by class a box ``(left, top, right, bottom)`` in pixels, or a list of boxes; or the
            :class:`Annotations` of a page.
        points: by class a point ``(x, y)``, or a list: the n-th belongs to the n-th box of the
            class; points without a box are objects of their own.
        segmenter: makes the mask of each object; the box itself if not given.
        names: all classes in order; those of the boxes and points if not given.

    Raises:
        RegionError: a box or point is not one, or lies outside the image.
        InputError: there is neither, a class is unknown, the annotations are of an image of another
            size, or the segmenter's answer is not a mask.
    """
    picture = as_picture(image).convert("RGB")
    size = (picture.height, picture.width)
    if isinstance(names, str):
        raise InputError(f"names= are several classes; got the text {names!r}. Give a list.")
    given = boxes
    if not isinstance(given, Annotations):
        for argument, value in (("boxes", given), ("points", points)):
            if value is not None and not isinstance(value, Mapping):
                raise InputError(
                    f"{argument}= has the classes' names: {{'cat': …}}; got a "
                    f"{type(value).__name__}."
                )
        given = _paired(given or {}, points or {}, size, names)
    if given.size != size:
        raise InputError(
            f"The annotations are of an image of {given.size} (height, width), this one is {size}."
        )
    classes = given.names if names is None else tuple(names)
    objects = []
    for one in given.objects:
        if one.name not in classes:
            raise InputError(
                f"{one.name!r} is not one of the classes in names=. Classes: {', '.join(classes)}."
            )
        box = None if one.box is None else _box(one.box, size)
        point = None if one.point is None else _point(one.point, size)
        objects.append((classes.index(one.name) + 1, _mask(segmenter, picture, box, point)))
    if not objects:
        raise InputError("There is nothing to annotate. Give boxes={'cat': (10, 10, 60, 60)}.")
    return _painted(objects, classes, picture)


def _paired(
    boxes: Mapping[str, Any],
    points: Mapping[str, Any],
    size: tuple[int, int],
    names: Sequence[str] | None,
) -> Annotations:
    """The n-th box of a class with its n-th point."""
    found = []
    for name in dict.fromkeys([*boxes, *points]):
        listed = (_several(given.get(name, ())) for given in (boxes, points))
        for box, point in zip_longest(*listed):
            found.append(AnnotatedObject(name, box, point))
    return Annotations(tuple(found), tuple(names or dict.fromkeys([*boxes, *points])), size)


def annotate_heat_maps(
    heat_maps: Mapping[str, HeatMap],
    *,
    segmenter: Segmenter,
    image: ImageLike = None,
    names: Sequence[str] | None = None,
) -> Segmentation:
    """A label map of what attention points at: a box and a peak for each part, then a segmenter.

    Args:
        heat_maps: by class.
        segmenter: is given each box of ``heat_map.boxes()`` and the highest pixel inside of it.
        image: in place of the maps'.
        names: all classes in order; those of the maps if not given.

    Raises:
        InputError: there is no map or no image; as :func:`annotate`.
        RegionError: a map is flat.
    """
    boxes = {name: list(heat_map.boxes()) for name, heat_map in heat_maps.items()}
    points = {
        name: [_peak_in(heat_map, box) for box in boxes[name]]
        for name, heat_map in heat_maps.items()
    }
    picture = image
    if picture is None:
        picture = next((one.image for one in heat_maps.values() if one.image is not None), None)
    if picture is None:
        raise InputError("The heat maps have no image, and a segmenter needs one. Give image=….")
    return annotate(picture, boxes, points, segmenter=segmenter, names=names)


def _peak_in(heat_map: HeatMap, box: Box) -> Point:
    """The middle of the highest pixel inside of a box."""
    left, top, right, bottom = (int(edge) for edge in box)
    inside = heat_map.values[top:bottom, left:right]
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    return (left + column + 0.5, top + row + 0.5)


def _several(value: Any) -> list[Any]:
    """The boxes or points of a class: one, or a list of them."""
    if isinstance(value, Box):
        return [value]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise RegionError(f"A box is four numbers and a point two; got {value!r}.")
    items = list(value)
    return [tuple(items)] if items and all(real_number(one) is not None for one in items) else items


def _box(value: Any, size: tuple[int, int]) -> Box:
    region = as_region(value, image_size=size)
    if not isinstance(region, Box):
        raise RegionError(f"An annotation is a box (left, top, right, bottom); got {value!r}.")
    return region.inside(size)


def _point(value: Any, size: tuple[int, int]) -> Point:
    numbers = [real_number(one) for one in value] if isinstance(value, (list, tuple)) else []
    x, y = numbers if len(numbers) == 2 else (None, None)
    if x is None or y is None or not (0 <= x < size[1] and 0 <= y < size[0]):
        raise RegionError(
            f"A point is (x, y) inside of the image of {size[1]}x{size[0]} pixels; got {value!r}."
        )
    return (x, y)


def _mask(
    segmenter: Segmenter, image: Image.Image, box: Box | None, point: Point | None
) -> BinaryMask:
    found = segmenter(image, box, point)
    tensor = found if isinstance(found, torch.Tensor) else torch.from_numpy(np.array(found))
    if tuple(tensor.shape) != (image.height, image.width):
        raise InputError(
            f"The segmenter gave a mask of shape {tuple(tensor.shape)}; one of the image's size "
            f"{(image.height, image.width)} (height, width) was wanted."
        )
    return tensor.cpu().float() > 0.5


def _painted(
    objects: Sequence[tuple[int, BinaryMask]], classes: tuple[str, ...], image: Image.Image
) -> Segmentation:
    """The objects on one map, small ones over large ones."""
    labels = torch.full((image.height, image.width), BACKGROUND, dtype=torch.int64, device="cpu")
    for number, mask in sorted(objects, key=lambda one: -int(one[1].sum())):
        labels[mask] = number
    found = tuple(sorted({number for number, _ in objects}))
    return Segmentation(labels, classes, image, found=found)
