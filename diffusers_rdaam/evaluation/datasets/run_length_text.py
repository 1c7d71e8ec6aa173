"""COCO's three forms of a mask: polygons, run lengths as numbers, and run lengths as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from diffusers_rdaam.errors import DataSetError, RegionError
from diffusers_rdaam.geometry.run_lengths import mask_of_run_lengths

# Polygons are drawn on a grid that is this much finer, and what is inside is read off it.
FINER = 5.0


def mask_of(form: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """A mask ``(height, width)`` of a segmentation in any of the three forms.

    Args:
        form: a list of polygons ``[x1, y1, …]``, all of one object; or ``{"size", "counts"}`` with
            counts as numbers or as text.
        size: height and width of the image.
        where: for errors.

    Raises:
        DataSetError: the form is none of these, or has another size.
    """
    if isinstance(form, list):
        masks = [polygon_mask(one, size, where) for one in form]
        return np.logical_or.reduce(masks) if masks else np.zeros(size, dtype=bool)
    try:
        counts = form["counts"]
        if isinstance(counts, (str, bytes)):
            counts = counts_of_text(counts)
        mask = mask_of_run_lengths({"size": form["size"], "counts": counts}).numpy()
    except (RegionError, KeyError, TypeError, IndexError) as error:
        raise DataSetError(f"{where}: this is not a segmentation: {error}") from error
    if mask.shape != size:
        raise DataSetError(
            f"{where}: a mask of {mask.shape} (height, width) in an image of {size}."
        )
    return mask


def counts_of_text(text: str | bytes) -> list[int]:
    """Run lengths of COCO's compressed form: 5 bits a character, differences from the third on.

    Raises:
        IndexError: the text ends within a number.
    """
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    place = 0
    while place < len(data):
        number, shift, more = 0, 0, True
        while more:
            bits = data[place] - 48
            number |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            place, shift = place + 1, shift + 5
            if not more and bits & 0x10:
                number |= -1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
    return counts


def polygon_mask(points: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The pixels inside one polygon by the rule of COCO's own tools (``rleFrPoly``).

    The outline is drawn on a grid five times as fine; a pixel is inside where the number of
    outlines over it in its column, from the top, is odd.

    Raises:
        DataSetError: it has fewer than three points, or not pairs of numbers.
    """
    try:
        corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise DataSetError(f"{where}: a polygon is [x1, y1, x2, y2, …]: {error}.") from error
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise DataSetError(f"{where}: a polygon of {len(corners)} points has no inside.")
    height, width = size
    fine = np.trunc(FINER * corners + 0.5).astype(np.int64)
    across, down = _outline(np.vstack([fine, fine[:1]]))
    crossings = _crossings(across, down, height, width)
    starts = np.bincount(crossings, minlength=height * width + 1)[: height * width]
    return (np.cumsum(starts) % 2 == 1).reshape(width, height).T.copy()


def _outline(fine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every point of the outline on the fine grid, in order."""
    parts: list[np.ndarray] = []
    for start, end in pairwise(fine):
        steps = np.abs(end - start)
        along = 0 if steps[0] >= steps[1] else 1
        flipped = start[along] > end[along]
        low, high = (end, start) if flipped else (start, end)
        length = int(steps[along])
        slope = (high[1 - along] - low[1 - along]) / length if length else 0.0
        offsets = np.arange(length + 1)
        points = np.empty((length + 1, 2), dtype=np.int64)
        points[:, along] = low[along] + offsets
        points[:, 1 - along] = np.trunc(low[1 - along] + slope * offsets + 0.5)
        parts.append(points[::-1] if flipped else points)
    outline = np.concatenate(parts)
    return outline[:, 0], outline[:, 1]


def _crossings(across: np.ndarray, down: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where the outline passes the middle of a column: places in column order."""
    moved = np.flatnonzero(across[1:] != across[:-1]) + 1
    here, before = across[moved], across[moved - 1]
    x = (np.where(here < before, here, here - 1) + 0.5) / FINER - 0.5
    y = (np.minimum(down[moved], down[moved - 1]) + 0.5) / FINER - 0.5
    kept = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    rows = np.ceil(np.clip(y[kept], 0, height)).astype(np.int64)
    return x[kept].astype(np.int64) * height + rows


def text_of_counts(counts: Sequence[int]) -> str:
    """The compressed form of run lengths: the inverse of :func:`counts_of_text`."""
    characters = []
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = number & 0x1F
            number >>= 5
            more = number != -1 if bits & 0x10 else number != 0
            characters.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(characters)
