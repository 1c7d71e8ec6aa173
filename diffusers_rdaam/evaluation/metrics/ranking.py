"""What a map is worth without a threshold: average precision, the pointing game, energy inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def average_precision(values: np.ndarray, mask: np.ndarray) -> float:
    """Of pixels ranked by a map, against a mask: ``sum_n (R_n - R_(n-1)) P_n``.

    ``P_n`` and ``R_n`` are precision and recall of all pixels from the n-th largest value on; equal
    values count together, so that the order of pixels does not matter. A map without information
    has the mask's share of the image. 0 where the mask is empty.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    ranked, hits = values.ravel()[order], mask.ravel()[order]
    if not len(ranked):
        return 0.0
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(hits)[last]
    precision, recall = found / (last + 1.0), found / max(int(mask.sum()), 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def stacked_average_precision(values: np.ndarray, mask: np.ndarray) -> float:
    """Average precision over two channels ``(1 - m, m)`` against ``(1 - t, t)``, as one list.

    What one paper's script prints as mAP. Half of all entries are positive whatever the size of the
    object, so that a flat map has 0.5.

    Args:
        values: a map ``m`` from 0 to 1.
        mask: ``t``, booleans of the same size.
    """
    channels = np.stack([1.0 - values, values])
    return average_precision(channels, np.stack([~mask, mask]))


def peak_of(values: np.ndarray, scored: np.ndarray | None = None) -> tuple[float, float]:
    """Row and column of a map's highest value; the middle of all of them where several are equal.

    Args:
        values: ``(height, width)``.
        scored: pixels that count; all if not given.
    """
    if scored is not None:
        values = np.where(scored, values, -np.inf)
    rows, columns = np.nonzero(values == values.max())
    return float(rows.mean()), float(columns.mean())


def points_inside(
    values: np.ndarray,
    mask: np.ndarray,
    *,
    tolerance: float = 0.0,
    scored: np.ndarray | None = None,
) -> bool:
    """The pointing game: whether the map's highest pixel lies in the mask, or near it.

    Args:
        values: ``(height, width)``.
        mask: of the same size.
        tolerance: in pixels: a pixel of the mask at a smaller distance is a hit. 0 asks for the
            pixel itself.
        scored: pixels that the highest is looked for among; all if not given.
    """
    row, column = peak_of(values, scored)
    if tolerance <= 0.0:
        return bool(mask[round(row), round(column)])
    rows, columns = np.nonzero(mask)
    distances = (rows - row) ** 2 + (columns - column) ** 2
    return bool((distances < tolerance**2).any())


def energy_inside(values: np.ndarray, mask: np.ndarray) -> float:
    """The share of a map's sum that lies in the mask; that of the area where the map is flat.

    Next to it belongs the mask's share of the image: what a map without information has.
    """
    whole = float(values.sum())
    return float(values[mask].sum()) / whole if whole > 0.0 else 0.0


def roc_area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive's value is over a negative's, ties half: the area under ROC."""
    one, other = np.asarray(positive)[:, None], np.asarray(negative)[None, :]
    return float(((one > other) + 0.5 * (one == other)).mean())


def area_under_curve(values: Sequence[float]) -> float:
    """The mean height under a curve of equal steps, by trapezoids: deletion and insertion."""
    inner = sum(values[1:-1]) + (values[0] + values[-1]) / 2.0
    return float(inner / (len(values) - 1))
