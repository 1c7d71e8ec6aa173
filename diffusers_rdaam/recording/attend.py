"""The attention of a recorded site: the stock one and the record beside it, or both in one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.kernels.dispatch import Choice
from diffusers_rdaam.kernels.operator import unserved
from diffusers_rdaam.kernels.sdpa import attention_with_lse
from diffusers_rdaam.recording.target import Observer, Target, choice_of


def attend(
    observer: Observer, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """What the stock call puts out, and the observer sees it.

    Args:
        observer: of the site.
        query: ``(rows, heads, positions, dim)``.
        key, value: ``(rows, heads, columns, dim)``.
        mask: as the stock attention takes it.
    """
    # The stock call passes no scale, so attention used this one, whatever attn.scale says.
    scale = key.shape[-1] ** -0.5
    choice = choice_of(observer)
    why = None
    if choice is not None and choice.attend is not None:
        why = _why_apart(observer, query, key, value)
        if why is None and isinstance(observer, Target) and observer.fits(query, key):
            return _in_one_pass(observer, choice, query, key, value, mask, scale)
    lse = None
    if isinstance(observer, Target) and observer.own and choice is not None and choice.wants_lse:
        attended, lse = attention_with_lse(query, key, value, mask=mask)
        observer.add(query, key, mask, scale, lse)
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        observer.add(query, key, mask, scale)
    if why is not None and choice is not None and choice.used.name == "beside":
        choice.used.tell("beside", why)
    return attended


def _why_apart(observer: Observer, query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Why the fused kernel does not take a call that it was asked for; None where it does."""
    if not isinstance(observer, Target):
        return "more than the maps is recorded here"
    if observer.own:
        return "self-attention has more columns than one pass holds"
    if torch.is_grad_enabled() and (
        query.requires_grad or key.requires_grad or value.requires_grad
    ):
        return "gradients are wanted, and the fused kernel has none"
    # Compiled code finds that out when it runs.
    return None if torch.compiler.is_compiling() else unserved(query, key, value=value)


def _in_one_pass(
    target: Target,
    choice: Choice,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    """The fused kernel; it takes the first branch's rows, others are added after it."""
    assert choice.attend is not None
    first = target.branches[0]
    attended = choice.attend(
        query,
        key,
        value,
        first.high,
        first.low,
        first=first.start,
        mask=mask,
        scale=scale,
        count=first.count,
    )
    target.add_from(1, query, key, mask, scale)
    if not torch.compiler.is_compiling():
        choice.used.tell(choice.name, choice.reason)
    return attended
