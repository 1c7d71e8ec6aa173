"""The definition of the maps: a materialised softmax in any float type, never optimised."""

from __future__ import annotations

import torch

from diffusers_rdaam.shapes import (
    AttentionMask,
    HeadMeans,
    Key,
    LogSums,
    Probabilities,
    Query,
)


def attention_probabilities(
    query: Query,
    key: Key,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    lse: LogSums | None = None,
) -> Probabilities:
    """Softmax over the tokens of ``scale * query @ key + mask``, in the type of the inputs.

    Scaled dot-product attention of Vaswani et al. (2017), equation 1, without the values. A
    position whose tokens are all masked with ``-inf`` has probability 0 everywhere, as the fused
    kernels have it.

    Args:
        query: ``(rows, heads, pixels, dim)``.
        key: ``(rows, key_heads, tokens, dim)``; ``key_heads`` divides ``heads``, and each head of
            the keys belongs to as many neighbouring heads of the queries.
        mask: added to the logits, or true where a position may attend; broadcast.
        scale: the factor of the products.
        lse: for joint attention, where ``key`` has some of the columns that a position attends to:
            the logarithm of the sum of ``exp(logit)`` over all columns. The probabilities are then
            ``exp(logit - lse)``; a position whose ``lse`` is ``-inf`` has none.
    """
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = scale * query @ key.transpose(-1, -2)
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask
    if lse is None:
        return torch.softmax(logits, dim=-1).nan_to_num(0.0)
    attends = (lse > -torch.inf).unsqueeze(-1)
    return torch.where(attends, (logits - lse.unsqueeze(-1)).exp(), 0.0)


def head_mean_probabilities(
    query: Query,
    key: Key,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    lse: LogSums | None = None,
) -> HeadMeans:
    """The mean over the heads of :func:`attention_probabilities`, tokens before pixels."""
    probabilities = attention_probabilities(query, key, mask=mask, scale=scale, lse=lse)
    return probabilities.mean(dim=1).transpose(-1, -2)
