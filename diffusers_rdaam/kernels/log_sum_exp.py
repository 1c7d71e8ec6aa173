"""The log-sum-exp of attention logits in tiles, where the attention's kernel does not return it.

Only one tile of logits exists at a time: never a matrix of all positions and all columns.
"""

from __future__ import annotations

import torch

from diffusers_rdaam import float32_products
from diffusers_rdaam.kernels.logits import Logits
from diffusers_rdaam.kernels.portable import added_mask, tile_positions
from diffusers_rdaam.shapes import AttentionMask, Key, LogSums, Query


def log_sum_exp(
    query: Query, key: Key, *, mask: AttentionMask | None = None, scale: float
) -> LogSums:
    """``log(sum(exp(query @ key * scale + mask)))`` over all columns, computed in float32.

    Args:
        query: ``(rows, heads, positions, dim)``.
        key: ``(rows, key_heads, columns, dim)``, of which ``heads`` is a multiple.
        mask: as for the stock attention: True where a column is attended to, or added to the
            logits.
        scale: the factor of the logits.

    Returns:
        Float32 ``(rows, heads, positions)``; ``-inf`` where no column is attended to.
    """
    rows, heads, positions, _ = query.shape
    sums = query.new_empty((rows, heads, positions), dtype=torch.float32)
    tile = tile_positions(heads * key.shape[2], query.device)
    if mask is not None:
        mask = added_mask(mask, rows).float()
    kind = float32_products.device_type(query.device)
    with torch.no_grad(), torch.autocast(kind, enabled=False):
        logits = Logits.of(query, key, scale)
        for row in range(rows):
            part = slice(row, row + 1)
            for start in range(0, positions, tile):
                some = slice(start, start + tile)
                products = logits[part](query[part, :, some])
                if mask is not None:
                    cut = mask[part] if mask.shape[2] == 1 else mask[part, :, some]
                    products = products + cut.transpose(-1, -2)
                sums[part, :, some] = products.logsumexp(dim=-2)
    return sums
