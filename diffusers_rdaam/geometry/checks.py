"""What makes a box, a polygon or a mask of what a user gives, and says what is wrong with it.

Each function raises :class:`~diffusers_rdaam.errors.RegionError`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.exact import cpu_tensor
from diffusers_rdaam.shapes import Column

BOX_FORM = "(left, top, right, bottom) in pixels, half-open, with left < right and top < bottom"

# Farther off than any image is large; beyond, rounding would move the outline.
FARTHEST = 1e7
_NUMBERS = (int, float, np.integer, np.floating)


def whole_number(value: Any, name: str) -> int:
    """An edge of a box as an int; ``name`` is said in errors."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, _NUMBERS):
        raise RegionError(f"{name} of a box must be a number of pixels, not {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RegionError(f"{name} of a box is {number}; it must be finite. A box is {BOX_FORM}.")
    if number != int(number):
        raise RegionError(
            f"{name} of a box is {number}; boxes are in whole pixels. Round it, or give a Polygon, "
            "which takes fractions."
        )
    return int(number)


def polygon_points(points: Any) -> tuple[tuple[float, float], ...]:
    """At least three finite points as pairs of floats."""
    try:
        points = list(points)
    except TypeError:
        raise RegionError(f"{points!r} is no list of (x, y) points.") from None
    if len(points) < 3:
        raise RegionError(f"A polygon needs at least 3 points, this has {len(points)}.")
    checked = []
    for point in points:
        try:
            if isinstance(point, bytes) or any(isinstance(x, (str, bytes, bool)) for x in point):
                raise TypeError
            x, y = (float(number) for number in point)
        except OverflowError:
            x = y = math.inf
        except (TypeError, ValueError):
            raise RegionError(f"{point!r} is no point. A point is (x, y) in pixels.") from None
        if not (math.isfinite(x) and math.isfinite(y)):
            raise RegionError(f"The point {point!r} of the polygon is not finite.")
        if max(abs(x), abs(y)) > FARTHEST:
            raise RegionError(f"The point {point!r} is over {FARTHEST:g} pixels off the image.")
        checked.append((x, y))
    return tuple(checked)


def on_one_line(points: tuple[tuple[float, float], ...]) -> bool:
    """Whether the points span no area."""
    # Not the signed area: that of a bow tie is zero as well.
    array = np.asarray(points)
    return int(np.linalg.matrix_rank(array - array[0])) < 2


def mask_tensor(value: Any) -> Column:
    """A mask as float32 ``(height, width)`` with values in [0, 1], not all zero."""
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("L"), dtype=np.float32) / 255.0
    try:
        array = cpu_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise RegionError(f"A mask is an array of numbers, not {str(value)[:80]!r}.") from None
    if array.ndim != 2:
        raise RegionError(
            f"A mask has two axes (height, width), this has shape {tuple(array.shape)}."
        )
    if array.is_complex():
        raise RegionError(f"A mask is boolean or of floats from 0 to 1, not {array.dtype}.")
    integers = array.dtype != torch.bool and not array.is_floating_point()
    if integers and bool(((array != 0) & (array != 1)).any()):
        raise RegionError(
            f"A mask of type {array.dtype} may hold only 0 and 1. Give booleans (mask > 0), or "
            "floats from 0 to 1."
        )
    weights = array.float()
    if not bool(torch.isfinite(weights).all()):
        raise RegionError("The mask has values that are not finite.")
    if bool((weights < 0).any()) or bool((weights > 1).any()):
        low, high = float(weights.min()), float(weights.max())
        raise RegionError(f"Mask values must lie in [0, 1]; these go from {low:g} to {high:g}.")
    if not bool(weights.any()):
        raise RegionError("The mask is all zero: no pixel is inside.")
    return weights.contiguous()
