"""The share of each pixel that lies inside an outline."""

from __future__ import annotations

import numpy as np
import torch

from diffusers_rdaam.shapes import CellWeights, Column

# Sample rows in a pixel. Along a row the share is exact.
ROWS = 4


def filled(points: tuple[tuple[float, float], ...], size: tuple[int, int]) -> Column:
    """The share of each pixel inside a closed outline, by the even-odd rule.

    Not PIL's polygon, which also fills every pixel that the outline touches.

    Args:
        points: ``(x, y)`` corners in pixels; they may lie outside the image.
        size: height and width of the image.
    """
    return placed(*filled_part(points, size), size)


def placed(corner: tuple[int, int], part: CellWeights, size: tuple[int, int]) -> Column:
    """The shares of a part of the image as those of the whole image, 0 elsewhere."""
    top, left = corner
    shares = torch.zeros(size, dtype=torch.float32, device="cpu")
    shares[top : top + part.shape[0], left : left + part.shape[1]] = part
    return shares


def filled_part(
    points: tuple[tuple[float, float], ...], size: tuple[int, int]
) -> tuple[tuple[int, int], CellWeights]:
    """:func:`filled` of the part of the image around the outline: its corner and its shares.

    Args:
        points: ``(x, y)`` corners in pixels; they may lie outside the image.
        size: height and width of the image.

    Returns:
        The first row and the first column of the part, and the shares; of one pixel at least.
    """
    height, width = size
    row, x = _crossings(np.asarray(points, dtype=np.float64), height * ROWS)
    if not len(row):
        return (0, 0), torch.zeros(1, 1, dtype=torch.float32, device="cpu")
    x = x.clip(0.0, width)
    # By row, then by x. Edges come one after another, each in order, which a stable sort merges.
    order = np.argsort(row * (width + 1.0) + x, kind="stable")
    row, x = row[order] // ROWS, x[order]
    # A closed outline crosses each sample row an even number of times: in, out, in, out. The rows
    # of one pixel are added before the running sum.
    step = np.ones(len(x))
    step[1::2] = -1.0
    cell = x.astype(np.int64)
    top, left = int(row[0]), min(int(cell.min()), width - 1)
    # The second pixel that a crossing changes may lie beyond the image.
    rows, columns = int(row[-1]) + 1 - top, int(cell.max()) + 2 - left
    place = (row - top) * columns + cell - left
    share = step * (x - cell)
    steps = np.bincount(place, step - share, rows * columns)
    steps += np.bincount(place + 1, share, rows * columns)
    inside = torch.from_numpy(steps).view(rows, columns).cumsum(dim=1)[:, : width - left]
    # Rounded, so that what is wholly inside is 1 and not nearly 1.
    inside = inside.mul_(1e6 / ROWS).round_().div_(1e6)
    return (top, left), inside.float()


def _crossings(corners: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample row and x of every crossing of an edge and a row's middle."""
    ends = np.roll(corners, -1, axis=0)
    below = [np.ceil(side[:, 1] * ROWS - 0.5).clip(0, rows) for side in (corners, ends)]
    first = np.minimum(*below).astype(np.int64)
    counts = np.maximum(*below).astype(np.int64) - first
    edge = np.repeat(np.arange(len(corners)), counts)
    row = np.arange(len(edge)) - (counts.cumsum() - counts - first)[edge]
    (x, y), (across, down) = corners[edge].T, (ends - corners)[edge].T
    return row, x + ((row + 0.5) / ROWS - y) * across / down
