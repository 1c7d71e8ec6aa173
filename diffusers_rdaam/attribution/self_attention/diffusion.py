"""Diffusion: spread a map by self-attention over what belongs together.

DAAM-I2I cuts at 0.02 over a map's minimum, which leaves nothing of a flat map and then divides by
zero. Here the threshold is on the map stretched from 0 to 1, so its maximum always stays.
"""

from __future__ import annotations

from diffusers_rdaam.argument_checks import check_count, check_threshold
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.shapes import Weights

# Best of those tried for the segments of the embedded model's images.
ITERATIONS = 3
THRESHOLD = 0.5


def diffuse(grid: SelfGrid, weights: Weights, *, iterations: int, threshold: float) -> Weights:
    """Cut off what is low, take the attention to what is left, and again.

    Args:
        grid: of the self-attention.
        weights: what to begin with, ``(maps, positions)``, not negative; each sums to 1.
        iterations: how often, after the first time.
        threshold: what is kept, from 0 (the minimum) to 1 (the maximum of each map).
    """
    cells = cut(grid.attention_to(weights), threshold)
    for _ in range(iterations):
        cells = cut(grid.attention_to(shares(cells)), threshold)
    return cells


def cut(cells: Weights, threshold: float) -> Weights:
    """0 where a map, stretched from 0 to 1, is under the threshold. Flat maps stay."""
    low, high = cells.amin(dim=1, keepdim=True), cells.amax(dim=1, keepdim=True)
    return cells.where(cells >= low + threshold * (high - low), 0.0)


def shares(cells: Weights) -> Weights:
    """Each map over its sum; one that is zero stays so."""
    return cells / cells.sum(dim=1, keepdim=True).clamp(min=1e-30)


def check_diffusion(iterations: int, threshold: float) -> None:
    """Raise :class:`InputError` where one of the two is out of range."""
    check_count(iterations, "iterations=", least=0)
    check_threshold(threshold, "each map stretched from 0 to 1")
