"""Which pairs to make so that the sum of their gains is highest: the Hungarian method."""

from __future__ import annotations

import numpy as np


def best_columns(gains: np.ndarray) -> np.ndarray:
    """The column of each row of a matrix, so that the sum is highest; no column is taken twice.

    scipy's where that is installed, which is faster, and the plain form otherwise.

    Args:
        gains: ``(rows, columns)``, the more the better.

    Returns:
        ``(rows,)``; -1 where there are more rows than columns and the row has none.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        return plain_best_columns(gains)
    found = np.full(len(gains), -1, dtype=np.int64)
    rows, columns = linear_sum_assignment(np.asarray(gains), maximize=True)
    found[rows] = columns
    return found


def plain_best_columns(gains: np.ndarray) -> np.ndarray:
    """:func:`best_columns` without scipy."""
    rows, columns = np.shape(gains)
    # Rows or columns that are not there gain nothing, whatever they are paired with.
    square = np.zeros((max(rows, columns),) * 2)
    square[:rows, :columns] = gains
    found = _assigned(square)[:rows] if square.size else np.zeros(0, dtype=np.int64)
    return np.where(found < columns, found, -1)


def _assigned(gains: np.ndarray) -> np.ndarray:
    """The column of each row of a square matrix, so that the sum is highest (Hungarian method).

    Rows are added one by one; each is brought in by the path of least cost through rows that are
    assigned already, with potentials that keep all reduced costs at 0 or more (Kuhn, Munkres).
    """
    costs, size = gains.max() - gains, len(gains)
    # A column of number 0 stands for the row that is being added.
    rows, columns = np.zeros(size + 1), np.zeros(size + 1)
    owner = np.zeros(size + 1, dtype=int)
    for row in range(1, size + 1):
        owner[0], column = row, 0
        least, before = np.full(size + 1, np.inf), np.zeros(size + 1, dtype=int)
        done = np.zeros(size + 1, dtype=bool)
        while owner[column]:
            done[column] = True
            reduced = costs[owner[column] - 1] - rows[owner[column]] - columns[1:]
            closer = ~done[1:] & (reduced < least[1:])
            least[1:][closer], before[1:][closer] = reduced[closer], column
            step = least[~done].min()
            following = int(np.flatnonzero(~done & (least == step))[0])
            rows[owner[done]] += step
            columns[done] -= step
            least[~done] -= step
            column = following
        while column:
            owner[column] = owner[before[column]]
            column = before[column]
    found = np.zeros(size, dtype=np.int64)
    found[owner[1:] - 1] = np.arange(size)
    return found
