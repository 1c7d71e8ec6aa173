"""Observation of attention in compiled code, as one operator that the compiler does not trace.

If the compiler traced what an observer does, a denoiser would be compiled once for calls that are
recorded and once for those that are not, and again for each number of a prompt's tokens. To the
compiler there is one operator, which changes a number: that of the observer, 0 for none. Which
observer that is, is looked up when the operator runs.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.observer import Observer, observe
from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.kernels.sdpa import attention_with_lse


class _Armed(NamedTuple):
    observer: weakref.ref[Any]
    thread: int | None


_numbers = itertools.count(1)
_armed: dict[int, _Armed] = {}


def new_handle() -> Tensor:
    """A number that says which observer sees a processor's calls; at first none does."""
    # A tensor that is made in inference mode could not be changed outside of it.
    with torch.inference_mode(False):
        return torch.zeros(1, dtype=torch.int64, device="cpu")


def arm_handle(handle: Tensor, observer: Observer, thread: int | None) -> None:
    """Show the compiled calls of a thread to an observer from now on."""
    number = next(_numbers)
    _armed[number] = _Armed(weakref.ref(observer), thread)
    disarm_handle(handle)
    handle.fill_(number)


def disarm_handle(handle: Tensor) -> None:
    """Show compiled calls to nobody from now on."""
    _armed.pop(int(handle), None)
    handle.zero_()


def _observer_of(handle: Tensor) -> Observer | None:
    armed = _armed.get(int(handle))
    if armed is None or armed.thread not in (None, threading.get_ident()):
        return None
    return armed.observer()


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    handle: Tensor,
    *,
    mask: Tensor | None,
    scale: float | None,
) -> Tensor:
    """The stock attention in compiled code, shown to the observer of the handle.

    Args:
        query, key, value, mask, scale: as of the stock attention; ``key`` may have fewer heads.
        handle: of the processor.
    """
    return _attend(query, key, value, mask, scale, handle)


def show(
    query: Tensor, key: Tensor, handle: Tensor, *, mask: Tensor | None, scale: float | None
) -> None:
    """Show a call in compiled code, whose output other code computes, to the observer."""
    _show(query, key, mask, scale, handle)


def refuse(why: str, handle: Tensor) -> None:
    """Note in compiled code, for the observer of the handle, why its call cannot be recorded."""
    _refuse(why, handle)


def _run_attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None,
    handle: Tensor,
) -> Tensor:
    observer = _observer_of(handle)
    if observer is None or observer.failure is not None:
        output = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    else:
        output, lse = attention_with_lse(query, key, value, mask=mask, scale=scale)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        observe(observer, AttentionCall(query, key, value, mask, factor, output, lse))
    # As the kernels lay it out, which compiled code was promised.
    output = output.transpose(1, 2).contiguous().transpose(1, 2)
    # An operator must not return what it was given, as it does for values of one position.
    return output.clone() if output.data_ptr() == value.data_ptr() else output


def _run_show(
    query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None, handle: Tensor
) -> None:
    observer = _observer_of(handle)
    if observer is not None:
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        observe(observer, AttentionCall(query, key, None, mask, factor))


def _run_refuse(why: str, handle: Tensor) -> None:
    observer = _observer_of(handle)
    if observer is not None:
        observer.failure = RecordingError(why)


# What the operators record is not in a captured graph of kernels.
_TAGS = [tag] if (tag := getattr(torch.Tag, "cudagraph_unsafe", None)) is not None else []
_attend = torch.library.custom_op(
    "diffusers_rdaam::observed_attention",
    _run_attend,
    mutates_args=("handle",),
    schema=(
        "(Tensor query, Tensor key, Tensor value, Tensor? mask, float? scale, Tensor(a!) handle) "
        "-> Tensor"
    ),
    tags=_TAGS,
)
_show = torch.library.custom_op(
    "diffusers_rdaam::show_attention",
    _run_show,
    mutates_args=("handle",),
    schema="(Tensor query, Tensor key, Tensor? mask, float? scale, Tensor(a!) handle) -> ()",
    tags=_TAGS,
)
_refuse = torch.library.custom_op(
    "diffusers_rdaam::refuse_attention",
    _run_refuse,
    mutates_args=("handle",),
    schema="(str why, Tensor(a!) handle) -> ()",
    tags=_TAGS,
)


@_attend.register_fake
def _output(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    """An empty output, laid out as ``(rows, positions, heads, dim)``."""
    rows, heads, positions, _ = query.shape
    return value.new_empty(rows, positions, heads, value.shape[3]).transpose(1, 2)
