"""The queries, keys and mask that diffusers' stock attention would attend with."""

from __future__ import annotations

from typing import NamedTuple

from diffusers.models.attention_processor import Attention
from torch import Tensor


class Projection(NamedTuple):
    """The tensors that attention is computed from, with the states of its keys.

    Args:
        query: ``(rows, heads, pixels, dim)``.
        key: ``(rows, heads, tokens, dim)``.
        mask: ``(rows, heads, 1 or pixels, tokens)``, or None.
        context: the states that the keys, and then the values, are projected from.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    context: Tensor


def project(
    attn: Attention,
    hidden_states: Tensor,
    context: Tensor | None,
    attention_mask: Tensor | None,
    temb: Tensor | None,
    *,
    normalize: bool = True,
) -> Projection:
    """Repeat the steps of ``AttnProcessor2_0`` before its attention, operation by operation.

    diffusers has no hook between projection and attention. A test compares the outputs bitwise with
    the stock class.

    Args:
        attn: the module.
        hidden_states: the image's, ``(rows, pixels, channels)`` or ``(rows, channels, height,
            width)``.
        context: the encoder's states ``(rows, tokens, width)``; None where the image attends to
            itself.
        attention_mask: as the module takes it.
        temb: the timestep's embedding, which a spatial norm takes.
        normalize: whether to apply the module's norms of queries and keys, which some processors
            do not.
    """
    if attn.spatial_norm is not None:
        hidden_states = attn.spatial_norm(hidden_states, temb)
    if hidden_states.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
    rows, tokens, _ = hidden_states.shape if context is None else context.shape
    if attention_mask is not None:
        attention_mask = attn.prepare_attention_mask(attention_mask, tokens, rows)
        attention_mask = attention_mask.view(rows, attn.heads, -1, attention_mask.shape[-1])
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
    query = attn.to_q(hidden_states)
    if context is None:
        context = hidden_states
    elif attn.norm_cross:
        context = attn.norm_encoder_hidden_states(context)
    query, key = split(attn, query), _key(attn, context, normalize)
    if normalize and attn.norm_q is not None:
        query = attn.norm_q(query)
    return Projection(query, key, attention_mask, context)


def project_key(attn: Attention, text: Tensor, *, normalize: bool = True) -> Tensor:
    """The keys ``(rows, heads, tokens, dim)`` of a text ``(rows, tokens, width)``."""
    if attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    return _key(attn, text, normalize)


def _key(attn: Attention, context: Tensor, normalize: bool) -> Tensor:
    key = split(attn, attn.to_k(context))
    return attn.norm_k(key) if normalize and attn.norm_k is not None else key


def split(attn: Attention, states: Tensor) -> Tensor:
    """Split ``(rows, n, heads * dim)`` into heads, ``(rows, heads, n, dim)``."""
    # Not einops, which would take longer than everything else that a recorded call does in Python,
    # nor unflatten, which is written in Python.
    rows, count, width = states.shape
    return states.view(rows, count, attn.heads, width // attn.heads).transpose(1, 2)


def finish(attn: Attention, attended: Tensor, residual: Tensor) -> Tensor:
    """Repeat the steps of ``AttnProcessor2_0`` after its attention.

    Args:
        attn: the module.
        attended: ``(rows, heads, n, dim)``.
        residual: the module's input.
    """
    states = attended.transpose(1, 2).flatten(2)
    states = attn.to_out[1](attn.to_out[0](states))
    if residual.ndim == 4:
        states = states.transpose(-1, -2).reshape(residual.shape)
    if attn.residual_connection:
        states = states + residual
    return states / attn.rescale_output_factor
