"""The definition: materialised, in any float type, never optimised."""

from __future__ import annotations

import torch

from diffusers_rdaam.shapes import AttentionMask, HeadMeans, Key, Probabilities, Query


def attention_probabilities(
    query: Query, key: Key, *, mask: AttentionMask | None = None, scale: float
) -> Probabilities:
    """Softmax over the tokens of ``scale * query @ key + mask``, in the inputs' own type.

    Scaled dot-product attention of Vaswani et al. (2017), equation 1, without the values. A
    position whose tokens are all masked with ``-inf`` has probability 0 everywhere, as the fused
    kernels have it.
    """
    logits = scale * query @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits + mask
    return torch.softmax(logits, dim=-1).nan_to_num(0.0)


def head_mean_probabilities(
    query: Query, key: Key, *, mask: AttentionMask | None = None, scale: float
) -> HeadMeans:
    """Mean over the heads of :func:`attention_probabilities`, tokens before pixels."""
    probabilities = attention_probabilities(query, key, mask=mask, scale=scale)
    return probabilities.mean(dim=1).transpose(-1, -2)
