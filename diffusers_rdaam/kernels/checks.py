"""Check the arguments of a kernel before anything is written; errors name the shapes.

A call whose shapes, types and devices have passed before is not checked again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError

# Signatures that have passed: a few for each site of a run. The set is emptied when it is full, so
# that a process that goes through sizes without end does not fill the memory.
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
    """Check a call, and return whether there is anything to add: without rows there is not.

    Args:
        query: ``(rows, heads, positions, dim)``.
        key: ``(rows, key_heads, columns, dim)``; ``key_heads`` divides ``heads``.
        high, low: float16 planes ``(rows, columns, positions)``, or one for each head
            ``(rows, heads, columns, positions)``; ``low`` may be None.
        mask: of booleans or of any float type, broadcast to ``(rows, heads, positions, columns)``.
        lse: float32 ``(rows, heads, positions)``.
        value: ``(rows, key_heads, columns, value_dim)``.
        first: the row whose maps go to the planes' first; None where the planes have all rows.

    Raises:
        InputError: the arguments do not match; the message has what came and what was wanted.
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


def check_squares(
    query: Tensor,
    key: Tensor,
    squares: Tensor,
    *,
    mask: Tensor | None = None,
    lse: Tensor | None = None,
    first: int | None = None,
) -> bool:
    """:func:`check` of a call that adds to squares, float32 ``(rows, columns, positions)``.

    Raises:
        InputError: the arguments do not match.
    """
    signature = ("squares", first, *map(_facts, (query, key, squares, mask, lse)))
    if signature not in _passed:
        if squares.dtype != torch.float32 or squares.ndim != 3:
            raise InputError(
                "A plane of squares must be torch.float32 (rows, columns, positions); got "
                f"{squares.dtype} {_shape(squares)}."
            )
        _check_attention(query, key, None)
        _check_planes(query, key, squares, None, first, dtype=torch.float32)
        _check_added(query, key, mask, lse)
        _check_devices(query, key=key, squares=squares, mask=mask, lse=lse)
        _passed.add(signature)
    return query.shape[0] > 0 and squares.shape[0] > 0


def _facts(tensor: Tensor | None) -> object:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device)


def _check_attention(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    came = f"query {_shape(query)} and key {_shape(key)}"
    if query.ndim != 4 or key.ndim != 4:
        raise InputError(f"Queries and keys must be (rows, heads, n, dim); got {came}.")
    if not (query.is_floating_point() and key.is_floating_point()):
        raise InputError(
            f"Queries and keys must be floating point; got {query.dtype} and {key.dtype}."
        )
    if 0 in query.shape[1:] or 0 in key.shape[1:]:
        raise InputError(
            f"Attention needs at least one head, query, key and channel; got {came}. Only the "
            "number of rows may be 0."
        )
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise InputError(f"Queries and keys must have the same rows and dim; got {came}.")
    if query.shape[1] % key.shape[1]:
        raise InputError(
            f"The number of key heads, {key.shape[1]}, must divide the number of query heads, "
            f"{query.shape[1]}; got {came}."
        )
    if value is not None and (value.ndim != 4 or value.shape[:3] != key.shape[:3]):
        raise InputError(
            f"Values must have the rows, heads and columns of the keys; got value {_shape(value)} "
            f"and key {_shape(key)}."
        )


def _check_planes(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    first: int | None,
    *,
    dtype: torch.dtype = torch.float16,
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
            f"positions), or for each head (rows, {heads} heads, {columns} columns, {positions} "
            f"positions), with {counts}."
        )
    if high.dtype != dtype:
        raise InputError(f"The planes must be {dtype}; got {high.dtype}.")
    if low is not None and (low.shape != high.shape or low.dtype != high.dtype):
        raise InputError(
            f"Both planes of a pair must have one shape and type; got {high.dtype} {_shape(high)} "
            f"and {low.dtype} {_shape(low)}."
        )


def _check_added(query: Tensor, key: Tensor, mask: Tensor | None, lse: Tensor | None) -> None:
    logits = (*query.shape[:3], key.shape[2])
    if mask is not None:
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise InputError(f"A mask must be boolean or floating point; got {mask.dtype}.")
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
            f"lse= must be torch.float32 of shape (rows, heads, positions) = "
            f"{tuple(query.shape[:3])}; got {lse.dtype} {_shape(lse)}."
        )


def _check_devices(query: Tensor, **others: Tensor | None) -> None:
    for name, other in others.items():
        if other is not None and other.device != query.device:
            raise InputError(
                f"All tensors must be on one device; the query is on {query.device}, {name} "
                f"{_shape(other)} on {other.device}."
            )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
