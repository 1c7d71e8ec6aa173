"""See that what goes into a kernel fits together: errors with shapes, before anything is written.

A call whose shapes, types and devices have passed before is not looked at again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError

# Signatures that have passed. A run has a few for each site; a process that goes through sizes
# without end forgets them all now and then.
_passed: set[tuple[object, ...]] = set()
_MOST = 4096


def check(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    lse: Tensor | None = None,
    value: Tensor | None = None,
    first: int | None = None,
) -> bool:
    """Whether there is anything to add: without rows there is not.

    Args:
        query: ``(rows, heads, positions, dim)``.
        key: ``(rows, key_heads, columns, dim)``; ``key_heads`` divides ``heads``.
        high, low: float16 planes ``(rows, columns, positions)``, or with heads apart ``(rows,
            heads, columns, positions)``; ``low`` may be None.
        mask: of booleans or of any float type, broadcast to ``(rows, heads, positions, columns)``.
        lse: float32 ``(rows, heads, positions)``.
        value: ``(rows, key_heads, columns, value_dim)``.
        first: the row whose maps go to the planes' first; None where the planes have all rows.

    Raises:
        InputError: something does not fit; the text has what came and what was wanted.
    """
    signature = (first, *map(_facts, (query, key, high, low, mask, lse, value)))
    if signature not in _passed:
        _check_attention(query, key, value)
        _check_planes(query, key, high, low, first)
        _check_added(query, key, mask, lse)
        _check_devices(query, key=key, high=high, low=low, mask=mask, lse=lse, value=value)
        if len(_passed) >= _MOST:
            _passed.clear()
        _passed.add(signature)
    return query.shape[0] > 0 and high.shape[0] > 0


def _facts(tensor: Tensor | None) -> object:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device)


def _check_attention(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    came = f"query {_shape(query)} and key {_shape(key)}"
    if query.ndim != 4 or key.ndim != 4:
        raise InputError(f"Attention is of (rows, heads, n, dim); got {came}.")
    if not (query.is_floating_point() and key.is_floating_point()):
        raise InputError(f"Attention is of floats; got {query.dtype} and {key.dtype}.")
    if 0 in query.shape[1:] or 0 in key.shape[1:]:
        raise InputError(
            f"Nothing attends, or to nothing: {came}. Heads, positions, columns and dim are at "
            "least 1; only the rows may be none."
        )
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise InputError(f"Queries and keys have the same rows and dim; got {came}.")
    if query.shape[1] % key.shape[1]:
        raise InputError(
            f"The {key.shape[1]} heads of the keys do not divide the {query.shape[1]} of the "
            f"queries: {came}."
        )
    if value is not None and (value.ndim != 4 or value.shape[:3] != key.shape[:3]):
        raise InputError(
            f"Values have the rows, heads and columns of the keys; got value {_shape(value)} and "
            f"key {_shape(key)}."
        )


def _check_planes(
    query: Tensor, key: Tensor, high: Tensor, low: Tensor | None, first: int | None
) -> None:
    rows, heads, positions, _ = query.shape
    columns = key.shape[2]
    if first is None:
        counts = f"{rows} rows"
        fits = high.ndim > 0 and high.shape[0] == rows
    else:
        counts = f"at most {rows - first} rows from row {first} of {rows}"
        fits = high.ndim > 0 and first >= 0 and first + high.shape[0] <= rows
    if not fits or high.shape[1:] not in ((columns, positions), (heads, columns, positions)):
        raise InputError(
            f"The planes have shape {_shape(high)}; wanted (rows, {columns} columns, {positions} "
            f"positions), or with heads apart (rows, {heads} heads, {columns} columns, {positions} "
            f"positions), with {counts}."
        )
    if high.dtype != torch.float16:
        raise InputError(f"The planes are torch.float16; got {high.dtype}.")
    if low is not None and (low.shape != high.shape or low.dtype != high.dtype):
        raise InputError(
            f"Both planes of a pair are alike; got {high.dtype} {_shape(high)} and {low.dtype} "
            f"{_shape(low)}."
        )


def _check_added(query: Tensor, key: Tensor, mask: Tensor | None, lse: Tensor | None) -> None:
    logits = (*query.shape[:3], key.shape[2])
    if mask is not None:
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise InputError(f"A mask is of booleans or floats; got {mask.dtype}.")
        fits = mask.ndim == 4 and all(
            size in (1, wanted) for size, wanted in zip(mask.shape, logits, strict=True)
        )
        if not fits:
            raise InputError(
                f"A mask of shape {_shape(mask)} does not broadcast to (rows, heads, positions, "
                f"columns) = {logits}. Give it four axes, each of that size or of 1."
            )
    if lse is not None and (lse.shape != query.shape[:3] or lse.dtype != torch.float32):
        raise InputError(
            f"lse is torch.float32 of shape (rows, heads, positions) = {tuple(query.shape[:3])}; "
            f"got {lse.dtype} {_shape(lse)}."
        )


def _check_devices(query: Tensor, **others: Tensor | None) -> None:
    for name, other in others.items():
        if other is not None and other.device != query.device:
            raise InputError(
                f"All tensors are on one device; the query is on {query.device}, {name} "
                f"{_shape(other)} on {other.device}."
            )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
