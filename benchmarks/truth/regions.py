"""Regions around an object that is known, and boxes of background."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks.embedded_model import bounding_box
from diffusers_rdaam.geometry.region import Box

KINDS = ("tight box", "half box", "double box", "polygon", "mask")
# Of the side of the image: how large a box of background is, and how far from every object.
BACKGROUND_SIDES = (0.16, 0.40)
CLEARANCE = 0.03
TRIES = 200


def regions_of(mask: np.ndarray) -> dict[str, object]:
    """The regions of :data:`KINDS` around an object's mask ``(height, width)``."""
    box = bounding_box(mask)
    return {
        "tight box": box,
        "half box": scaled(box, 0.5, mask.shape),
        "double box": scaled(box, 2.0, mask.shape),
        "polygon": hull(mask),
        "mask": mask,
    }


def scaled(box: Box, factor: float, size: tuple[int, ...]) -> Box:
    """The box with its sides times ``factor`` about its centre, cut off at the image's edges."""
    x, y = (box.left + box.right) / 2.0, (box.top + box.bottom) / 2.0
    across, down = (factor * side / 2.0 for side in (box.right - box.left, box.bottom - box.top))
    height, width = size
    return Box(
        max(x - across, 0.0), max(y - down, 0.0), min(x + across, width), min(y + down, height)
    )


def hull(mask: np.ndarray) -> list[tuple[float, float]]:
    """The convex hull of a mask's pixels, through the outer corners, as a polygon."""
    rows, columns = np.nonzero(mask)
    corners = {
        (int(x) + across, int(y) + down)
        for x, y in zip(columns, rows, strict=True)
        for across in (0, 1)
        for down in (0, 1)
    }
    points = sorted(corners)
    return [*_half_hull(points), *_half_hull(points[::-1])]


def _half_hull(points: Iterable[tuple[int, int]]) -> list[tuple[float, float]]:
    """One side of the hull (Andrew's monotone chain), without its last point."""
    chain: list[tuple[float, float]] = []
    for x, y in points:
        while len(chain) > 1:
            (x1, y1), (x2, y2) = chain[-2:]
            if (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) > 0.0:
                break
            chain.pop()
        chain.append((float(x), float(y)))
    return chain[:-1]


def background_boxes(
    masks: Iterable[np.ndarray], rng: np.random.Generator, count: int
) -> list[Box]:
    """Up to ``count`` boxes that keep clear of every object; fewer where there is little room."""
    objects = [bounding_box(mask) for mask in masks if mask.any()]
    height, width = next(iter(masks)).shape
    found: list[Box] = []
    for _ in range(TRIES):
        if len(found) == count:
            break
        across, down = (rng.uniform(*BACKGROUND_SIDES, 2) * (width, height)).round().astype(int)
        left, top = int(rng.integers(width - across + 1)), int(rng.integers(height - down + 1))
        box = Box(left, top, left + int(across), top + int(down))
        if all(_clear(box, other, CLEARANCE * width) for other in objects):
            found.append(box)
    return found


def _clear(one: Box, other: Box, gap: float) -> bool:
    return (
        one.right + gap <= other.left
        or other.right + gap <= one.left
        or one.bottom + gap <= other.top
        or other.bottom + gap <= one.top
    )
