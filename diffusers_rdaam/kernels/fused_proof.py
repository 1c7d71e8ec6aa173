"""Proof of the Triton kernels: the first call of each kind is compared with two other kernels.

The binary that Triton compiles for this GPU, this driver and these sizes may never have run before.
So the first call of each kind is made once more before it counts: with the same arguments, so that
the same binary runs, and into the same planes, whose sums wait on the host meanwhile. Every cell of
every recorded row is then compared with the portable kernel, every output with torch's attention,
and some positions with the definition in float64. Where they differ, the kernels refuse calls like
it from then on. This waits for the device once for each kind; a later call costs a look into a
table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.kernels import fused
from diffusers_rdaam.kernels.fused_launch import refuse
from diffusers_rdaam.kernels.proof_call import ProvedCall

# What a proof allocates on the device at most, beyond the call's output and partial sums. It
# compares parts that are small enough.
MOST_BYTES = 8 * 2**20

Kind = tuple[object, ...]
_proved: set[Kind] = set()
_MOST = 4096

NOT_FINITE = "Triton's kernel has not been checked yet, and these queries or keys are not finite"
CAPTURING = (
    "Triton's kernel has not been checked at this size, and cannot be while a CUDA graph is being "
    "captured: make one call outside of the capture first"
)
NO_MEMORY = "there was no memory to check Triton's kernel"


def kind_of(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    value: Tensor | None,
    first: int | None,
    count: Tensor | None,
) -> Kind:
    """Everything that decides which binary serves a call, and how: calls alike in it are one kind.

    Shapes and strides decide blocks and shares of heads; Triton compiles anew where an address or a
    stride is a multiple of 16, and where a number is 1.
    """
    return (
        query.device, query.dtype, key.dtype, first, scale,
        query.shape, query.stride(), query.data_ptr() & 15,
        key.shape, key.stride(), key.data_ptr() & 15,
        high.shape, high.stride(), high.data_ptr() & 15, high.dtype,
        low if low is None else (low.shape, low.stride(), low.data_ptr() & 15, low.dtype),
        count if count is None else count.data_ptr() & 15,
        mask if mask is None else (mask.shape, mask.stride(), mask.dtype, mask.data_ptr() & 15),
        lse if lse is None else (lse.shape, lse.stride(), lse.dtype, lse.data_ptr() & 15),
        value if value is None else (
            value.shape, value.stride(), value.dtype, value.data_ptr() & 15
        ),
    )  # fmt: skip


def is_proved(kind: Kind) -> bool:
    """Whether the kernels have been right for a call of this kind."""
    return kind in _proved


def prove(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    scale: float,
    lse: Tensor | None = None,
    value: Tensor | None = None,
    first: int | None = None,
    count: Tensor | None = None,
) -> str | None:
    """Check that the kernels are right for calls of this kind.

    Args:
        query, key, mask, scale, lse, value, first: the call's arguments, see
            :mod:`diffusers_rdaam.kernels.fused`; with ``value`` the output is checked too.
        high, low, count: the call's planes and number of additions. The proof works in them and
            restores their contents.

    Returns:
        None where the kernels are right; else why they cannot be checked now. The next call is
        checked again.

    Raises:
        NotServedError: the kernels are wrong, or could not be launched.
    """
    # Recorded calls count additions. Without a count the proof must still run the same binary.
    if count is None:
        count = torch.zeros(1, dtype=torch.int32, device=query.device)
    kind = kind_of(query, key, high, low, mask, scale, lse, value, first, count)
    if kind in _proved or 0 in high.shape:
        return None
    if _capturing(query):
        return CAPTURING
    call = ProvedCall(query, key, high, low, count, mask, scale, lse, value, first or 0)
    try:
        if not _is_finite(query, key):
            return NOT_FINITE
        right = _is_right(call)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return f"{NO_MEMORY} ({type(error).__name__})"
    if not right:
        why = "Triton's kernel was checked on this device and did not agree with the definition"
        raise refuse(query, key, why)
    if len(_proved) >= _MOST:
        _proved.clear()
    _proved.add(kind)
    return None


def _capturing(query: Tensor) -> bool:
    return query.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _is_finite(*tensors: Tensor) -> bool:
    # The extremes are NaN where one element is, and no tensor of the inputs' size is allocated.
    return all(bool(end.isfinite()) for tensor in tensors for end in torch.aminmax(tensor))


@torch.no_grad()
def _is_right(call: ProvedCall) -> bool:
    # The kernels ignore autocast, so the kernels that they are compared with must too.
    with torch.autocast(call.query.device.type, enabled=False), _emptied(call):
        output = None
        added: dict[str, Any] = {"mask": call.mask, "scale": call.scale, "count": call.count}
        added["first"] = call.first
        if call.value is None:
            fused.accumulate(call.query, call.key, call.high, call.low, lse=call.lse, **added)
        else:
            output = fused.attend(call.query, call.key, call.value, call.high, call.low, **added)
        if int(call.count) != 1:
            return False
        return call.maps_agree() and (output is None or call.output_agrees(output))


@contextmanager
def _emptied(call: ProvedCall) -> Iterator[None]:
    """Set planes and count to 0 in the block; their contents wait on the host, and come back."""
    tensors = [tensor for tensor in (call.high, call.low, call.count) if tensor is not None]
    kept = [tensor.to("cpu", copy=True) for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.zero_()
        yield
    finally:
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.copy_(before)
