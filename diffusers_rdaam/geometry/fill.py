"""The share of each pixel that lies inside an outline."""

from __future__ import annotations

import numpy as np
import torch

from diffusers_rdaam.shapes import Column

# Sample rows in a pixel. Along a row the share is exact.
ROWS = 4


def filled(points: tuple[tuple[float, float], ...], size: tuple[int, int]) -> Column:
    """The share of each pixel inside a closed outline, by the even-odd rule.

    Not PIL's polygon, which also fills every pixel that the outline touches.

    Args:
        points: ``(x, y)`` corners in pixels; they may lie outside the image.
        size: height and width of the image.
    """
    height, width = size
    row, x = _crossings(np.asarray(points, dtype=np.float64), height * ROWS)
    x = x.clip(0.0, width)
    order = np.lexsort((x, row))
    row, x = row[order], x[order]
    # A closed outline crosses each row an even number of times: in, out, in, out.
    step = 1.0 - 2.0 * (np.arange(len(x)) % 2)
    cell = x.astype(np.int64)
    steps = np.zeros((height * ROWS, width + 2))
    np.add.at(steps, (row, cell), step * (cell + 1 - x))
    np.add.at(steps, (row, cell + 1), step * (x - cell))
    shares = steps.cumsum(axis=1)[:, :width].reshape(height, ROWS, width).mean(axis=1)
    return torch.from_numpy(shares.round(6).clip(0.0, 1.0).astype(np.float32))


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
