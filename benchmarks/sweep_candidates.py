"""The ways to cut a kernel's work that a sweep tries, those nearest to the default first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from itertools import product

from diffusers_rdaam.kernels.blocks import SHARED_BYTES, SMALLEST, Blocks, cover

POSITIONS = (16, 32, 64, 128)
# Columns of a program, where it has not all.
TILES = (16, 32, 64, 128)
WARPS = (2, 4, 8)
STAGES = (1, 2, 3)


def of_text(
    default: Blocks,
    *,
    positions: int,
    columns: int,
    heads: int,
    channels: int,
    element_bytes: int,
    attends: bool,
) -> list[Blocks]:
    """For columns that fit one tile: the default, then the others.

    Args:
        default: what is launched without a sweep.
        positions, columns, heads, channels: of the attention.
        element_bytes: of a query's number.
        attends: whether the output is made too, and values are loaded.
    """
    depth = cover(channels).total * element_bytes
    width = cover(columns).total * (2 if attends else 1)
    # Shares need not be of one size; those of 3 and 5 are among the defaults.
    splits = [n for n in range(1, heads + 1) if heads % n == 0 or n in (3, 5)]

    def all_of_them() -> Iterator[Blocks]:
        for block, shares, warps, stages in product(_blocks(positions), splits, WARPS, STAGES):
            # Heads are loaded ahead, so one head alone has nothing to load ahead.
            if stages > -(-heads // shares):
                continue
            if stages * (width + block) * depth <= SHARED_BYTES:
                yield Blocks(block, 0, shares, warps, stages)

    return _ordered(default, all_of_them())


def of_columns(
    default: Blocks, *, positions: int, columns: int, channels: int, element_bytes: int
) -> list[Blocks]:
    """For more columns than a tile holds; arguments as of :func:`of_text`."""
    depth = cover(channels).total * element_bytes
    tiles = [tile for tile in TILES if tile <= cover(columns).main]

    def all_of_them() -> Iterator[Blocks]:
        for block, tile, warps, stages in product(_blocks(positions), tiles, WARPS, STAGES):
            if (block + 2 * stages * tile) * depth <= SHARED_BYTES:
                yield Blocks(block, tile, 1, warps, stages)

    return _ordered(default, all_of_them())


def _blocks(positions: int) -> list[int]:
    """Without those of which more than half would be padding."""
    return [block for block in POSITIONS if block == SMALLEST or block < 2 * positions]


def _ordered(default: Blocks, others: Iterable[Blocks]) -> list[Blocks]:
    """Those that differ in one number first: a sweep that runs out of time has seen these."""

    def distance(cut: Blocks) -> tuple[int, float]:
        pairs = list(zip(astuple(cut), astuple(default), strict=True))
        steps = (abs(math.log2(max(new, 1) / max(old, 1))) for new, old in pairs)
        return sum(new != old for new, old in pairs), sum(steps)

    return sorted({default, *others}, key=lambda cut: (*distance(cut), *astuple(cut)))
