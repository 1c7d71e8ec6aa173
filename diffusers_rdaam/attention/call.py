"""The attention of a recorded site: the stock one and the record beside it, or both in one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.attention.map_target import (
    Observer,
    ObserverGroup,
    Target,
    choice_of,
    observe,
    without_frames,
)
from diffusers_rdaam.kernels.dispatch import KernelChoice
from diffusers_rdaam.kernels.operator import unserved
from diffusers_rdaam.kernels.sdpa import attention_with_lse


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
    if isinstance(observer, Target) and observer.plain:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        observe(observer, query, key, mask, scale)
        return attended
    target, others = (
        (observer.observers[0], observer.observers[1:])
        if isinstance(observer, ObserverGroup)
        else (observer, ())
    )
    if not isinstance(target, Target) or target.choice is None:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        observe(observer, query, key, mask, scale)
        return attended
    attended = _attend_to(target, target.choice, query, key, value, mask, scale)
    for other in others:
        observe(other, query, key, mask, scale)
    return attended


def _attend_to(
    target: Target,
    choice: KernelChoice,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    if torch.compiler.is_compiling():
        return _attend_and_add(target, choice, query, key, value, mask, scale)
    if target.failure is None:
        try:
            return _attend_and_add(target, choice, query, key, value, mask, scale)
        except Exception as error:
            target.failure = without_frames(error)
    # Recording is over; an error of the attention itself is raised here, as by the stock one.
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _attend_and_add(
    target: Target,
    choice: KernelChoice,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    why = _why_separate(target, query, key, value) if choice.attend is not None else None
    if choice.attend is not None and why is None and target.fits(query, key):
        return _in_one_pass(target, choice, query, key, value, mask, scale)
    if target.kind == "self" and choice.wants_lse and not torch.compiler.is_compiling():
        attended, lse = attention_with_lse(query, key, value, mask=mask)
        observe(target, query, key, mask, scale, lse=lse)
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        observe(target, query, key, mask, scale)
    tell_why_separate(target, why)
    return attended


def tell_why_separate(observer: Observer, why: str | None) -> None:
    """Note why the maps of a call were made beside its attention, where one pass was asked for."""
    choice = choice_of(observer)
    if why is None or choice is None or choice.attend is None or torch.compiler.is_compiling():
        return
    if choice.used.name == "maps_only":
        choice.used.note("maps_only", why)


def _why_separate(target: Target, query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Why the fused kernel does not take a call that it was asked for; None where it does."""
    if target.kind == "self":
        return "self-attention has more columns than one pass holds"
    if torch.is_grad_enabled() and (
        query.requires_grad or key.requires_grad or value.requires_grad
    ):
        return "gradients are wanted, and the fused kernel has none"
    # Compiled code finds that out when it runs.
    return None if torch.compiler.is_compiling() else unserved(query, key, value=value)


def _in_one_pass(
    target: Target,
    choice: KernelChoice,
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
    told = choice.used.name, choice.used.reason
    target.add_from(1, query, key, mask, scale)
    if not torch.compiler.is_compiling():
        # Of the branches after it the maps alone are made.
        choice.used.note(*told)
    return attended
