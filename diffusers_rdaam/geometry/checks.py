"""Checks of the coordinates of boxes and polygons.

Each function raises :class:`~diffusers_rdaam.errors.RegionError`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from diffusers_rdaam.argument_checks import scalar
from diffusers_rdaam.errors import RegionError

Number: TypeAlias = int | float
Edges: TypeAlias = tuple[Number, Number, Number, Number]

BOX_FORM = "(left, top, right, bottom) in pixels, half-open, with left < right and top < bottom"

# Farther off than any image is large; beyond, rounding would move the outline.
FARTHEST = 1e7
# Detectors that answer in shares of the image go a little beyond its border.
_NORMALIZED = (-0.1, 1.1)
_LONGEST = 80


def shown(value: Any) -> str:
    """The value as it is shown in an error, cut in the middle where it is long."""
    text = repr(value)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half + 1 :]}"


def box_edge(value: Any, name: str) -> Number:
    """An edge of a box: an int where it is whole, else a float; ``name`` is said in errors."""
    number = scalar(value)
    if isinstance(number, (bool, np.bool_)) or not isinstance(number, numbers.Real):
        raise RegionError(f"{name} of a box must be a number of pixels, not {shown(value)}.")
    if isinstance(number, numbers.Integral):
        whole = int(number)
        # Beyond the range of floats is as far as infinity.
        if abs(whole) < 10**300:
            return whole
        edge = math.inf
    else:
        edge = float(number)
    if not math.isfinite(edge):
        raise RegionError(f"{name} of a box is {edge}; it must be finite. A box is {BOX_FORM}.")
    return int(edge) if edge == int(edge) else edge


def check_order(edges: Edges) -> None:
    """Refuse a box whose edges are not in order."""
    left, top, right, bottom = edges
    if left < right and top < bottom:
        return
    kind = "empty" if left == right or top == bottom else "inverted"
    hint = ""
    if right > 0 and bottom > 0:
        hint = (
            " If these are x, y, width and height, write "
            f"Box.from_xywh({', '.join(map(str, edges))})."
        )
    raise RegionError(f"The box {edges} is {kind}. A box is {BOX_FORM}.{hint}")


def refuse_normalized(
    given: Iterable[Any], image_size: tuple[int, int] | None = None, *, what: str = "box"
) -> None:
    """Refuse coordinates in shares of the image, which as pixels would be one corner.

    Whole numbers are pixels: ``(0, 0, 1, 1)`` is the first pixel, ``(0.0, 0.0, 1.0, 1.0)`` is not.

    Args:
        given: the coordinates as they came, x and y in turn.
        image_size: height and width of the image, where they are known.
        what: the kind of region.
    """
    values = [scalar(value) for value in given]
    low, high = _NORMALIZED
    if all(isinstance(value, numbers.Integral) for value in values):
        return
    if not all(low <= float(value) <= high for value in values):
        return
    if image_size is None:
        sides = ("width", "height")
        scaled = [f"{float(value):.4g} * {sides[i % 2]}" for i, value in enumerate(values)]
    else:
        height, width = image_size
        scaled = [f"{float(value) * (width, height)[i % 2]:.6g}" for i, value in enumerate(values)]
    listed = ", ".join(scaled) if len(scaled) <= 8 else ", ".join([*scaled[:8], "…"])
    raise RegionError(
        f"All coordinates of this {what} lie in 0 to 1, so it looks normalized: given in shares of "
        f"the image. Regions are in pixels; multiply by the image's width and height: ({listed})."
    )


def polygon_points(points: Any) -> tuple[tuple[float, float], ...]:
    """At least three finite points as pairs of floats."""
    try:
        points = list(points)
    except TypeError:
        raise RegionError(f"{shown(points)} is not a list of (x, y) points.") from None
    if len(points) < 3:
        raise RegionError(f"A polygon needs at least 3 points, this has {len(points)}.")
    plain = _plain_points(points)
    return tuple(_point(point) for point in points) if plain is None else plain


def _plain_points(points: list[Any]) -> tuple[tuple[float, float], ...] | None:
    """Pairs of Python's numbers, checked all at once; None where one needs a closer look.

    A drawn outline has some hundred points, and most of the time of a question was theirs.
    """
    for point in points:
        if type(point) not in (tuple, list) or len(point) != 2:
            return None
        if type(point[0]) not in (int, float) or type(point[1]) not in (int, float):
            return None
    try:
        array = np.array(points, dtype=np.float64)
    except OverflowError:
        return None
    # False where one is NaN, too.
    if not np.abs(array).max() <= FARTHEST:
        return None
    return tuple(map(tuple, array.tolist()))


def may_be_normalized(points: tuple[tuple[float, float], ...]) -> bool:
    """Whether all coordinates lie where :func:`refuse_normalized` has to look at them."""
    low, high = _NORMALIZED
    return all(low <= x <= high and low <= y <= high for x, y in points)


def _point(point: Any) -> tuple[float, float]:
    try:
        if isinstance(point, bytes) or any(isinstance(x, (str, bytes, bool)) for x in point):
            raise TypeError
        x, y = (float(number) for number in point)
    except OverflowError:
        x = y = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise RegionError(f"{shown(point)} is not a point. A point is (x, y) in pixels.") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise RegionError(f"The point {shown(point)} of the polygon is not finite.")
    if max(abs(x), abs(y)) > FARTHEST:
        raise RegionError(f"The point {shown(point)} is over {FARTHEST:g} pixels off the image.")
    return (x, y)


def on_one_line(points: tuple[tuple[float, float], ...]) -> bool:
    """Whether the points span no area."""
    # Not the signed area: that of a bow tie is zero as well. The distance of every point from the
    # line through the first and the farthest from it, against what rounding leaves of it.
    array = np.asarray(points, dtype=np.float64)
    x, y = (array - array[0]).T
    reach = np.hypot(x, y)
    far = int(reach.argmax())
    crosses = np.abs(x * y[far] - y * x[far])
    return bool(crosses.max() <= len(points) * np.finfo(np.float64).eps * reach[far] ** 2)


def outside_image(what: str, size: tuple[int, int]) -> str:
    """The first sentence of an error about something outside of the image.

    Args:
        what: what lies there, with its article: ``"The pixel (3, 900)"``.
        size: height and width of the image.
    """
    height, width = size
    return f"{what} lies outside the image, which is {width} pixels wide and {height} high"


def check_pixel(x: int, y: int, size: tuple[int, int]) -> None:
    """Refuse a pixel outside an image of ``size`` (height, width)."""
    height, width = size
    if not (0 <= x < width and 0 <= y < height):
        raise RegionError(f"{outside_image(f'The pixel {(x, y)}', size)}.")
