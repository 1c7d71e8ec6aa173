"""The definition's result in tiles of image positions, on any device.

One tile of logits is all that exists at a time, so the extra memory does not grow with the image.
"""

from __future__ import annotations

import torch

from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.shapes import AttentionMask, Key, Plane, Query

TILE = 512


def accumulate(
    query: Query,
    key: Key,
    high: Plane,
    low: Plane | None,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    tile: int = TILE,
) -> None:
    """Add the head-mean probabilities of every row to the planes ``(rows, tokens, pixels)``.

    Logits are float32 whatever the inputs' type, and autocast is off: bf16 logits would put the
    probabilities off by up to 3 %. Only in-place tensor operations, so that a compiled denoiser
    neither breaks its graph nor recompiles.
    """
    pixels = query.shape[2]
    with torch.autocast(device_type=query.device.type, enabled=False):
        # Tokens before pixels: the softmax then runs along rows of neighbours, and a tile is added
        # without a transposition.
        scaled = key.float() * scale
        for start in range(0, pixels, tile):
            part = slice(start, min(start + tile, pixels))
            logits = scaled @ query[:, :, part].float().transpose(-1, -2)
            if mask is not None:
                rows = mask if mask.shape[2] == 1 else mask[:, :, part]
                logits += rows.transpose(-1, -2)
            probabilities = torch.softmax(logits, dim=-2)
            if mask is not None:
                probabilities = probabilities.nan_to_num_(0.0)
            remainder = None if low is None else low[:, :, part]
            add_to_planes(probabilities.mean(dim=1), high[:, :, part], remainder)
