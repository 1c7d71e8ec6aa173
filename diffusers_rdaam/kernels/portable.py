"""The definition's result in tiles of image positions, on any device.

One tile of logits is all that exists at a time, so the extra memory grows neither with the image
nor with the number of images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.shapes import AttentionMask, HeadMeans, Key, Plane, Query

# Logits in a tile. On a processor 1 MiB of float32, which stays in its second-level cache: whole
# grids cost up to a third more. Elsewhere a tile costs a dozen kernel launches, so few are made.
CELLS_ON_CPU = 2**18
CELLS_ELSEWHERE = 2**22
# Shorter tiles would cost more in calls than in arithmetic.
SHORTEST_TILE = 64


def accumulate(
    query: Query,
    key: Key,
    high: Plane,
    low: Plane | None,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    tile: int | None = None,
) -> None:
    """Add the head-mean probabilities of every row to the planes ``(rows, tokens, pixels)``.

    Planes ``(rows, heads, tokens, pixels)`` take each head's own probabilities instead.

    Logits are float32 whatever the inputs' type, and autocast is off: bf16 logits would put the
    probabilities off by up to 3 %. Only in-place tensor operations, so that a compiled denoiser
    neither breaks its graph nor recompiles.

    Args:
        query, key, high, low, mask, scale: see :mod:`diffusers_rdaam.kernels.reference`.
        tile: image positions at a time; by the device's cache if not given.
    """
    rows, heads, pixels, _ = query.shape
    positions = tile or tile_positions(heads * key.shape[2], query.device)
    # Whole rows together only where one tile holds them; each alone, no query is ever copied.
    step = max(1, positions // pixels)
    if mask is not None:
        mask = mask.expand(rows, -1, -1, -1)
    with torch.autocast(device_type=query.device.type, enabled=False):
        keys = key.float() * (scale if mask is not None else scale * math.log2(math.e))
        for first in range(0, rows, step):
            row = slice(first, first + step)
            for start in range(0, pixels, positions):
                part = slice(start, start + positions)
                cut = None if mask is None else _cut(mask[row], part)
                maps = _probabilities(query[row, :, part], keys[row], cut, apart=high.ndim == 4)
                remainder = None if low is None else low[row, ..., part]
                add_to_planes(maps, high[row, ..., part], remainder)


def tile_positions(cells_per_position: int, device: torch.device) -> int:
    """How many image positions a tile has where each has ``cells_per_position`` logits.

    A power of two: a tenth is lost where the rows of logits end within a vector register.
    """
    cells = CELLS_ON_CPU if device.type == "cpu" else CELLS_ELSEWHERE
    most = max(SHORTEST_TILE, cells // cells_per_position)
    return 1 << (most.bit_length() - 1)


def _probabilities(
    query: Query, keys: Key, mask: AttentionMask | None, *, apart: bool
) -> HeadMeans:
    """One tile's softmax over the tokens: mean over the heads, or the heads ``apart``.

    ``keys`` are scaled, and without a mask also multiplied by log2(e): ``2 ** x`` is a quarter of
    the price of ``e ** x`` on a processor. A mask is not scaled with them, because its finite
    minimum would overflow.
    """
    # Tokens before pixels: the sums then run along rows of neighbours, and a tile is added to the
    # planes without a transposition.
    powers = keys @ query.float().transpose(-1, -2)
    if mask is not None:
        powers += mask.transpose(-1, -2)
    powers -= powers.amax(dim=-2, keepdim=True)
    if mask is not None:
        powers *= math.log2(math.e)
    powers.exp2_()
    heads = 1 if apart else powers.shape[1]
    powers *= powers.sum(dim=-2, keepdim=True).mul_(heads).reciprocal_()
    if mask is not None:
        # A position whose tokens are all masked with -inf attends to nothing.
        powers.nan_to_num_(0.0)
    return powers if apart else powers.sum(dim=1)


def _cut(mask: AttentionMask, part: slice) -> Tensor:
    return mask if mask.shape[2] == 1 else mask[:, :, part]
