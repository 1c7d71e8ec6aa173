"""The Triton kernels on trial: the first call of each kind is held against two other kernels.

Nobody may have run what a compiler makes of a kernel for this GPU, this driver and these sizes. So
the first call of each kind is made once more before it counts: the same arguments, so that the same
binary runs, into the same planes, whose sums wait on the host meanwhile. Every cell of every
recorded row is then compared with the portable kernel, every output with torch's own attention, and
some positions with the definition in float64. Where they differ, the kernels refuse calls like it
from then on. That waits for the device once a kind; afterwards a call costs a look into a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.kernels import fused
from diffusers_rdaam.kernels.fused_launch import refuse
from diffusers_rdaam.kernels.proof_call import TriedCall

# What a trial allocates on the device at most beyond what the call itself does, which are its
# output and the sums of its shares of heads. It works in parts of a size that keeps to it.
MOST_BYTES = 8 * 2**20

Kind = tuple[object, ...]
_proved: set[Kind] = set()
_MOST = 4096

NOT_FINITE = "Triton's kernel has not been tried yet, and these queries or keys are not finite"
CAPTURING = (
    "Triton's kernel has not been tried at this size, and cannot be while a CUDA graph is being "
    "captured: make one call outside of the capture first"
)
NO_MEMORY = "there was no memory to try Triton's kernel"


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
    """What calls have in common that are one kind: all that decides which binary runs, and how.

    Shapes and strides decide blocks and shares; Triton compiles anew where an address or a stride
    is a multiple of 16, and where a number is 1.
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
    """Whether the kernels were right for calls of this kind."""
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
    """See that the kernels are right for calls of this kind.

    Args:
        query, key, mask, scale, lse, value, first: of the call, see
            :mod:`diffusers_rdaam.kernels.fused`; with ``value`` it is one that attends.
        high, low, count: its planes and its number of additions. The trial works in them, and
            leaves them with the numbers that they came with.

    Returns:
        None where they are right; else why that cannot be said now. The next call is asked again.

    Raises:
        NotServedError: they are wrong, or could not be launched.
    """
    # A recorded call counts. Without a number the trial still has to run what does.
    if count is None:
        count = torch.zeros(1, dtype=torch.int32, device=query.device)
    kind = kind_of(query, key, high, low, mask, scale, lse, value, first, count)
    if kind in _proved or 0 in high.shape:
        return None
    if _capturing(query):
        return CAPTURING
    call = TriedCall(query, key, high, low, count, mask, scale, lse, value, first or 0)
    try:
        if not _is_finite(query, key):
            return NOT_FINITE
        right = _is_right(call)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return f"{NO_MEMORY} ({type(error).__name__})"
    if not right:
        why = "Triton's kernel was tried on this device and did not agree with the definition"
        raise refuse(query, key, why)
    if len(_proved) >= _MOST:
        _proved.clear()
    _proved.add(kind)
    return None


def _capturing(query: Tensor) -> bool:
    return query.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _is_finite(*tensors: Tensor) -> bool:
    # Their extremes are not numbers where one element is none; no tensor of their size is made.
    return all(bool(end.isfinite()) for tensor in tensors for end in torch.aminmax(tensor))


@torch.no_grad()
def _is_right(call: TriedCall) -> bool:
    # The kernels compute as if there were no autocast, and so does what they are held against.
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
def _emptied(call: TriedCall) -> Iterator[None]:
    """Planes and count at 0; afterwards as they were. Meanwhile they wait on the host."""
    tensors = [tensor for tensor in (call.high, call.low, call.count) if tensor is not None]
    kept = [tensor.to("cpu", copy=True) for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.zero_()
        yield
    finally:
        for tensor, before in zip(tensors, kept, strict=True):
            tensor.copy_(before)
