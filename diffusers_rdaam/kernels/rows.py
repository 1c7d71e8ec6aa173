"""Cut the recorded rows out of a call whose tensors have all rows."""

from __future__ import annotations

from torch import Tensor

# Queries, keys, mask and log-sum-exp.
Rows = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def recorded_rows(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    lse: Tensor | None,
    *,
    first: int | None,
    images: int,
) -> Rows:
    """The ``images`` rows from ``first`` on, as views; all rows where ``first`` is None."""
    if first is None or query.shape[0] == images:
        return query, key, mask, lse
    rows = slice(first, first + images)
    # A mask with one row holds for all rows.
    if mask is not None and mask.shape[0] > 1:
        mask = mask[rows]
    return query[rows], key[rows], mask, None if lse is None else lse[rows]
