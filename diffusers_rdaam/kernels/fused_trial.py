"""The Triton kernels on trial: the first call of each kind is held against the definition.

Nobody may have run what a compiler makes of a kernel for this GPU, this driver and these sizes. So
the first call of each kind runs once more into planes of its own, and some of its positions are
computed in float64 beside. Where they differ, the kernels refuse calls like it from then on. That
waits for the device once a kind; afterwards a call costs a look into a table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.kernels import fused, reference
from diffusers_rdaam.kernels.fused_launch import refuse
from diffusers_rdaam.kernels.planes import read_planes

# Positions at either end of the grid that are looked at: the last block is seldom a whole one.
LOOKED_AT = 16
# Columns that are recorded for it, where the log-sum-exp allows a choice.
COLUMNS = 256
# A wrong kernel is off by far more, and rounding by far less: of probabilities, and of outputs by
# their type, relative to the largest value.
_MAPS = 1e-4
# One plane alone rounds what is added to it.
_SINGLE = 1e-3
_OUTPUT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}

_proved: set[tuple[object, ...]] = set()
_MOST = 4096


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
    first: int = 0,
) -> None:
    """See that the kernels are right for calls of this kind.

    Args:
        query, key, mask, scale, lse, value, first: of the call, see
            :mod:`diffusers_rdaam.kernels.fused`; with ``value`` it is one that attends.
        high, low: its planes, which are not touched.

    Raises:
        NotServedError: they are not, or could not be launched.
    """
    kind = (
        query.device, query.dtype, query.shape, key.shape, high.shape, low is None,
        None if mask is None else (mask.dtype, mask.shape), lse is None, value is None,
    )  # fmt: skip
    if kind in _proved or 0 in high.shape or _cannot_wait(query):
        return
    if not (bool(query.isfinite().all()) and bool(key.isfinite().all())):
        # Nothing can be said about these; the next call is asked again.
        return
    if not _agrees(query, key, high, low, mask, scale, lse, value, first):
        why = "Triton's kernel was tried on this device and did not agree with the definition"
        raise refuse(query, key, why)
    if len(_proved) >= _MOST:
        _proved.clear()
    _proved.add(kind)


def _cannot_wait(query: Tensor) -> bool:
    return query.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _agrees(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    value: Tensor | None,
    first: int,
) -> bool:
    if lse is not None and key.shape[2] > COLUMNS:
        key = key[:, :, :COLUMNS]
        mask = None if mask is None or mask.shape[3] == 1 else mask[..., :COLUMNS]
    shape = (*high.shape[:-2], key.shape[2], high.shape[-1])
    sums = high.new_zeros(shape)
    remainders = None if low is None else low.new_zeros(shape)
    output = None
    if value is None:
        fused.accumulate(query, key, sums, remainders, mask=mask, scale=scale, lse=lse)
    else:
        output = fused.attend(
            query, key, value, sums, remainders, first=first, mask=mask, scale=scale
        )
    at = torch.arange(query.shape[2], device=query.device)
    at = torch.cat((at[:LOOKED_AT], at[-LOOKED_AT:]))
    probabilities = _definition(query, key, mask, scale, lse, first, at)
    maps = probabilities if high.ndim == 4 else probabilities.mean(dim=1)
    found = read_planes(sums, remainders)[:1, ..., at].mT
    # NaN is no more than nothing, so it does not agree.
    if not (found - maps).abs().max() <= (_MAPS if low is not None else _SINGLE):
        return False
    if output is None or value is None:
        return True
    values = _of_row(value, first).repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    difference = (_of_row(output, first)[:, :, at] - probabilities @ values).abs().max()
    return bool(difference <= _OUTPUT[query.dtype] * values.abs().max())


def _definition(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scale: float,
    lse: Tensor | None,
    first: int,
    at: Tensor,
) -> Tensor:
    """Probabilities ``(1, heads, positions, columns)`` of one row at some positions, in float64."""
    if mask is not None:
        mask = mask if mask.shape[0] == 1 else mask[first : first + 1]
        mask = mask if mask.shape[2] == 1 else mask[:, :, at]
        mask = mask if mask.dtype == torch.bool else mask.double()
    return reference.attention_probabilities(
        _of_row(query, first)[:, :, at],
        _of_row(key, first),
        mask=mask,
        scale=scale,
        lse=None if lse is None else _of_row(lse, first)[:, :, at],
    )


def _of_row(tensor: Tensor, row: int) -> Tensor:
    return tensor[row : row + 1].double()
