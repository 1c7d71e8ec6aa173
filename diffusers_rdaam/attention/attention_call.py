"""AttentionCall: everything that an observer sees of one call of a site, as one value."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.shapes import Attended, AttentionMask, Key, LogSums, Query, Value


class AttentionCall(NamedTuple):
    """One call of a site's attention, of all rows of the batch.

    A named tuple, because ``torch.compile`` traces one without a graph break. Slices are made of
    the sizes of the call's tensors: numbers that are stored elsewhere would be compiled in.

    Args:
        query: ``(rows, heads, positions, dim)``.
        key: ``(rows, key_heads, columns, dim)``.
        value: ``(rows, key_heads, columns, value_dim)``; None where a processor of diffusers
            computes its attention itself, and its values are not projected twice.
        mask: as the stock attention takes it, broadcast to ``(rows, heads, positions, columns)``.
        scale: the factor of the logits.
        attended: the output ``(rows, heads, positions, value_dim)``; None for observers that see
            the call before it is computed, or while it is.
        lse: float32 log-sum-exp of the logits over all columns, ``(rows, heads, positions)``; None
            where the attention's kernel does not return it.
        image: the positions that are the image's, at a joint site; None where all are.
        text: the columns that are the text's, at a joint site; None where all are what the site's
            kind says.
    """

    query: Query
    key: Key
    value: Value | None
    mask: AttentionMask | None
    scale: float
    attended: Attended | None = None
    lse: LogSums | None = None
    image: slice | None = None
    text: slice | None = None


def stock_attention(call: AttentionCall) -> Tensor:
    """The output of the attention function that diffusers' stock processor calls."""
    return F.scaled_dot_product_attention(call.query, call.key, call.value, attn_mask=call.mask)  # type: ignore[arg-type]  # never called without values


def completed(call: AttentionCall, attended: Tensor, lse: Tensor | None = None) -> AttentionCall:
    """The call with its output, and with its log-sum-exp where the kernel returns it."""
    # Five times as fast as _replace.
    return AttentionCall(
        call.query,
        call.key,
        call.value,
        call.mask,
        call.scale,
        attended,
        lse,
        call.image,
        call.text,
    )


def image_queries(call: AttentionCall) -> Tensor:
    """The queries of the image's positions ``(rows, heads, positions, dim)``, a view."""
    return call.query if call.image is None else call.query[:, :, call.image]


def text_attention(call: AttentionCall) -> AttentionCall:
    """The part of a call in which the image's positions attend to the text's columns.

    Everything is a view. Values and output are left out: those of a part of the columns are not
    the attention's.
    """
    image, text = call.image, call.text
    if image is None and text is None:
        return call
    query, key, mask, lse = image_queries(call), call.key, call.mask, call.lse
    if text is not None:
        key = key[:, :, text]
    if mask is not None:
        # An axis of one element holds for all.
        if image is not None and mask.shape[2] != 1:
            mask = mask[:, :, image]
        if text is not None and mask.shape[3] != 1:
            mask = mask[..., text]
    if lse is not None and image is not None:
        lse = lse[:, :, image]
    return AttentionCall(query, key, None, mask, call.scale, lse=lse)
