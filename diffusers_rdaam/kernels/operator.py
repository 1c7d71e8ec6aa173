"""The kernels as operators, for compiled denoisers.

If the compiler traced the portable kernel, its loop over tiles would fix the number of tiles, and a
denoiser that is compiled for all sizes would be compiled anew for each. To the compiler an operator
is one call that changes its planes; which kernel serves it is decided when it runs.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.kernels import portable
from diffusers_rdaam.kernels.checks import check

_ACCUMULATE = (
    "(Tensor query, Tensor key, Tensor(a!) high, Tensor(b!)? low, Tensor? mask, float scale, "
    "Tensor? lse, Tensor(c!)? count, int? first=None) -> ()"
)


def accumulate(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    scale: float,
    lse: Tensor | None = None,
    count: Tensor | None = None,
    first: int | None = None,
) -> None:
    """:func:`diffusers_rdaam.kernels.portable.accumulate`, which the compiler does not trace."""
    arguments = (query, key, high, low, mask, scale, lse, count, first)
    _portable(*arguments) if torch.compiler.is_compiling() else _run_portable(*arguments)


def accumulate_squares(
    query: Tensor,
    key: Tensor,
    squares: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float,
    lse: Tensor | None = None,
    count: Tensor | None = None,
    first: int | None = None,
) -> None:
    """:func:`diffusers_rdaam.kernels.portable.accumulate_squares`, not traced by the compiler.

    Squares are a pass of their own, after any kernel of the maps.
    """
    arguments = (query, key, squares, mask, scale, lse, count, first)
    _squares(*arguments) if torch.compiler.is_compiling() else _run_squares(*arguments)


def maps_only(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    scale: float,
    lse: Tensor | None = None,
    count: Tensor | None = None,
    first: int | None = None,
) -> str | None:
    """Triton's kernel for the maps alone; for a call that it does not serve, the portable one.

    Returns:
        In eager calls why Triton's kernel did not serve it; None where it did, or in compiled code.
    """
    arguments = (query, key, high, low, mask, scale, lse, count, first)
    if torch.compiler.is_compiling():
        _maps_only(*arguments)
        return None
    return _run_maps_only(*arguments)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    first: int,
    mask: Tensor | None = None,
    scale: float,
    count: Tensor | None = None,
) -> Tensor:
    """Compute attention's output ``(rows, heads, positions, dim)`` and its maps in one pass.

    Args:
        query, key, mask, scale: all rows; see :mod:`diffusers_rdaam.kernels.reference`.
        value: ``(rows, key_heads, tokens, dim)``.
        high, low: planes of the rows from ``first`` on.
        first: the row whose maps go to the planes' first.
        count: one integer, the number of additions; 1 is added.
    """
    arguments = (query, key, value, high, low, count, first, mask, scale)
    return _attend(*arguments) if torch.compiler.is_compiling() else _run_attend(*arguments)


def attend_or_why(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    first: int,
    mask: Tensor | None = None,
    scale: float,
    count: Tensor | None = None,
) -> tuple[Tensor | None, str | None]:
    """:func:`attend` in eager calls; where the fused kernel does not serve one, nothing is done.

    Returns:
        The output and None; or None and why the kernel does not serve the call.
    """
    fused, proof = _triton()
    call: dict[str, Any] = {"first": first, "mask": mask, "scale": scale, "count": count}
    kind = proof.kind_of(query, key, high, low, mask, scale, None, value, first, count)
    proved = proof.is_proved(kind) and not fused.refused
    why = None if proved else fused.unserved(query, key, value=value)
    try:
        if not proved and why is None:
            check(query, key, high, low, mask=mask, value=value, first=first)
            why = proof.prove(query, key, high, low, value=value, **call)
        if why is None:
            return fused.attend(query, key, value, high, low, **call), None
    except (fused.NotServedError, torch.OutOfMemoryError) as error:
        # Nothing was added to the planes yet.
        why = _first_line(error)
    return None, why


def _run_portable(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    count: Tensor | None,
    first: int | None = None,
) -> None:
    portable.accumulate(
        query, key, high, low, mask=mask, scale=scale, lse=lse, count=count, first=first
    )


def _run_squares(
    query: Tensor,
    key: Tensor,
    squares: Tensor,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    count: Tensor | None,
    first: int | None = None,
) -> None:
    portable.accumulate_squares(
        query, key, squares, mask=mask, scale=scale, lse=lse, count=count, first=first
    )


def _run_maps_only(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    count: Tensor | None,
    first: int | None = None,
) -> str | None:
    fused, proof = _triton()
    call: dict[str, Any] = {"mask": mask, "scale": scale, "lse": lse, "count": count}
    call["first"] = first
    # A kind that was proved has passed the checks and is served, unless it was refused since.
    kind = proof.kind_of(query, key, high, low, mask, scale, lse, None, first, count)
    proved = proof.is_proved(kind) and not fused.refused
    why = None if proved else fused.unserved(query, key, lse=lse)
    try:
        if not proved and why is None:
            if not check(query, key, high, low, mask=mask, lse=lse, first=first):
                return None
            why = proof.prove(query, key, high, low, **call)
        if why is None:
            fused.accumulate(query, key, high, low, **call)
            return None
    except (fused.NotServedError, torch.OutOfMemoryError) as error:
        # Nothing was added to the planes yet.
        why = _first_line(error)
    portable.accumulate(query, key, high, low, **call)
    return why


def _run_attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    high: Tensor,
    low: Tensor | None,
    count: Tensor | None,
    first: int,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    call: dict[str, Any] = {"first": first, "mask": mask, "scale": scale, "count": count}
    output, _ = attend_or_why(query, key, value, high, low, **call)
    if output is not None:
        return output
    grouped: Any = {"enable_gqa": True} if query.shape[1] != key.shape[1] else {}
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, **grouped
    )
    _run_maps_only(query, key, high, low, mask, scale, None, count, first)
    # The strides of the fused kernel's output, which compiled code was promised.
    return output.transpose(1, 2).contiguous().transpose(1, 2)


@lru_cache(maxsize=1)
def _triton() -> tuple[ModuleType, ModuleType]:
    """The modules of Triton's kernels, imported when a kernel is first needed."""
    from diffusers_rdaam.kernels import fused, fused_proof

    return fused, fused_proof


def _first_line(error: Exception) -> str:
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return first


def _run_maps_only_silently(*arguments: Any) -> None:
    _run_maps_only(*arguments)


_portable = torch.library.custom_op(
    "diffusers_rdaam::accumulate",
    _run_portable,
    mutates_args=("high", "low", "count"),
    schema=_ACCUMULATE,
)
_squares = torch.library.custom_op(
    "diffusers_rdaam::accumulate_squares",
    _run_squares,
    mutates_args=("squares", "count"),
    schema=(
        "(Tensor query, Tensor key, Tensor(a!) squares, Tensor? mask, float scale, Tensor? lse, "
        "Tensor(b!)? count, int? first=None) -> ()"
    ),
)
_maps_only = torch.library.custom_op(
    "diffusers_rdaam::maps_only",
    _run_maps_only_silently,
    mutates_args=("high", "low", "count"),
    schema=_ACCUMULATE,
)
_attend = torch.library.custom_op(
    "diffusers_rdaam::attend",
    _run_attend,
    mutates_args=("high", "low", "count"),
    schema=(
        "(Tensor query, Tensor key, Tensor value, Tensor(a!) high, Tensor(b!)? low, "
        "Tensor(c!)? count, int first, Tensor? mask, float scale) -> Tensor"
    ),
)


@_attend.register_fake
def _output(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    """An empty output with the values' width, laid out as ``(rows, positions, heads, dim)``."""
    rows, heads, positions, _ = query.shape
    return value.new_empty(rows, positions, heads, value.shape[3]).transpose(1, 2)
