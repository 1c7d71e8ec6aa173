"""The connected parts of a mask: pixels that touch along an edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.shapes import BinaryMask


@dataclass(frozen=True)
class Component:
    """A connected part of a mask: its number of pixels and the smallest box around it."""

    pixels: int
    box: Box


def components(mask: BinaryMask) -> list[Component]:
    """The connected parts, largest first; parts of one size from the top down.

    Each row is cut into runs of pixels inside, and runs of two rows, one below the other, are of
    one part where they have a column in common.

    Args:
        mask: ``(height, width)`` booleans.
    """
    height, width = mask.shape
    rows, starts, stops, part = _runs(mask)
    if not len(rows):
        return []
    count = int(part.max()) + 1
    pixels = np.bincount(part, stops - starts).astype(int)
    first = np.full((2, count), max(height, width))
    last = np.zeros((2, count), dtype=int)
    for axis, (low, high) in enumerate(((starts, stops), (rows, rows + 1))):
        np.minimum.at(first[axis], part, low)
        np.maximum.at(last[axis], part, high)
    boxes = np.concatenate([first, last]).T
    order = np.argsort(-pixels, kind="stable")
    return [Component(int(pixels[i]), Box(*map(int, boxes[i]))) for i in order]


def component_masks(mask: BinaryMask, *, least: float = 0.0) -> list[BinaryMask]:
    """The connected parts as masks, in the order of :func:`components`.

    Args:
        mask: ``(height, width)`` booleans.
        least: how many pixels a part has at least, as a share of those of the largest part.
    """
    rows, starts, stops, part = _runs(mask)
    if not len(rows):
        return []
    pixels = np.bincount(part, stops - starts).astype(int)
    order = np.argsort(-pixels, kind="stable")
    # One number for each pixel: the part that its run is of, from 1.
    numbers = np.zeros(tuple(mask.shape), dtype=np.int64)
    for row, start, stop, number in zip(rows, starts, stops, part, strict=True):
        numbers[row, start:stop] = number + 1
    kept = [number for number in order if pixels[number] >= least * pixels.max()]
    return [torch.from_numpy(numbers == number + 1) for number in kept]


def _runs(mask: BinaryMask) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The row, start, stop and part of each run of pixels inside."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask.cpu().numpy()
    changes = np.diff(padded, axis=1)
    rows, starts = np.nonzero(changes == 1)
    stops = np.nonzero(changes == -1)[1]
    if not len(rows):
        return rows, starts, stops, rows
    labels = _joined(len(rows), *_touching(rows, starts, stops, width))
    return rows, starts, stops, np.unique(labels, return_inverse=True)[1]


def _touching(
    rows: np.ndarray, starts: np.ndarray, stops: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of runs, of a row and the next one, that have a column in common."""
    # Runs lie in order, so that those of the next row that a run meets are neighbours.
    place = rows * (width + 1)
    below = place + width + 1
    first = np.searchsorted(place + stops, below + starts, side="right")
    last = np.searchsorted(place + starts, below + stops, side="left")
    counts = (last - first).clip(0)
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(len(upper)) - (counts.cumsum() - counts - first)[upper]
    return upper, lower


def _joined(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A label for each of ``count`` runs: the lowest number among those that pairs connect."""
    labels = np.arange(count)
    while True:
        lowest = np.minimum(labels[one], labels[other])
        if np.array_equal(lowest, np.maximum(labels[one], labels[other])):
            return labels
        for ends in (one, other):
            np.minimum.at(labels, labels[ends], lowest)
        # A label is the number of a run, whose label may be lower by now.
        while not np.array_equal(labels, shorter := labels[labels]):
            labels = shorter
