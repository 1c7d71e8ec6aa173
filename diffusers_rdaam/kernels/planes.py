"""Sums in half precision: a plane, or a plane with the scaled remainder of every cell.

The remainder is the rounding error of the plane. It is at most half a unit in the last place, so
it is kept times 2**11, where half precision is not yet subnormal: the pair then carries about 22
bits, whatever the number of additions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusers_rdaam.shapes import HeadMeans, Plane

REMAINDER_SCALE = 2048.0


def add_to_planes(addend: HeadMeans, high: Plane, low: Plane | None) -> None:
    """Add ``addend`` (float32) to the sum in place; arithmetic in float32."""
    if low is None:
        high.add_(addend)
        return
    total = torch.add(addend, low, alpha=1.0 / REMAINDER_SCALE).add_(high)
    high.copy_(total)
    low.copy_(total.sub_(high).mul_(REMAINDER_SCALE))


def read_planes(high: Plane, low: Plane | None) -> Tensor:
    """The sums as float32, same shape."""
    total = high.float()
    return total if low is None else total.add_(low, alpha=1.0 / REMAINDER_SCALE)
