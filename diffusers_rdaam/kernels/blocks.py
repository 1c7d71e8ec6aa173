"""How the Triton kernels cut their work: plain numbers, the same for the same shapes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

# Tensor cores take no fewer of an axis.
SMALLEST = 16
# Shared memory that every GPU from compute capability 8.0 on grants a program (8.6 and 8.9 the
# least, 99 KiB), with something left for what the compiler puts there itself.
SHARED_BYTES = 88 * 1024
# More would spill registers with the smallest block, of logits and as many sums.
MOST_COLUMNS = 256
_DEEPEST, _DEEPEST_FLOAT32 = 160, 64
# A float32 product is three products of the tensor cores, and more columns spill by the kilobyte.
_MOST_COLUMNS_FLOAT32 = 128
# Programs on one multiprocessor at a time: its registers and shared memory hold two or three.
PROGRAMS = 2
# Shares of heads whose sums meet in memory, before blocks are made smaller.
MOST_SHARES = 5


@dataclass(frozen=True)
class Split:
    """A size as one or two powers of two, ``main + rest``, that cover it with little padding."""

    main: int
    rest: int

    @property
    def total(self) -> int:
        """The covered size, padding included."""
        return self.main + self.rest


@dataclass(frozen=True)
class Blocks:
    """How a kernel is launched.

    Args:
        positions: image positions of a program.
        columns: text columns of a program, 0 where it has all.
        splits: programs that share the heads of a block of positions.
        warps, stages: the compiler's options: warps of a program; loads that run at once.
    """

    positions: int
    columns: int
    splits: int
    warps: int
    stages: int


@lru_cache(maxsize=256)
def cover(size: int) -> Split:
    """The tightest cover by one power of two, or by two of which the second is the smaller.

    ``cover(77)`` is 64 + 16 in place of 128, ``cover(40)`` 32 + 16, ``cover(64)`` 64.
    """
    whole = max(SMALLEST, 1 << (size - 1).bit_length())
    main = whole // 2
    if main < SMALLEST:
        return Split(whole, 0)
    rest = max(SMALLEST, 1 << (size - main - 1).bit_length())
    return Split(whole, 0) if main + rest >= whole else Split(main, rest)


@lru_cache(maxsize=256)
def fits_one_tile(columns: int, channels: int, element_bytes: int, *, attends: bool) -> bool:
    """Whether all columns of a head can be at hand at once, in registers and shared memory."""
    depth = cover(channels).total
    if element_bytes == 4:
        most_columns, deepest = _MOST_COLUMNS_FLOAT32, _DEEPEST_FLOAT32
    else:
        most_columns, deepest = MOST_COLUMNS, _DEEPEST
    if columns > most_columns or depth > deepest:
        return False
    loaded = cover(columns).total * (2 if attends else 1) + SMALLEST
    return loaded * depth * element_bytes <= SHARED_BYTES


@lru_cache(maxsize=1024)
def for_text(
    rows: int,
    positions: int,
    columns: int,
    heads: int,
    channels: int,
    element_bytes: int,
    processors: int,
    *,
    attends: bool,
    per_head: bool = False,
) -> Blocks:
    """How the work is cut where all columns fit one tile.

    The largest block that the compiler keeps in registers: 64 positions feed Hopper's matrix unit.
    One program on a multiprocessor hides none of the time that its loads take, so programs share
    the heads until there are :data:`PROGRAMS` of them for each. The sums of shares meet in memory:
    beyond :data:`MOST_SHARES` these would be most of what is moved, and blocks are halved first.

    No device has shown yet that these choices are the best; ``python -m benchmarks sweep`` tries
    the others on one.

    Args:
        rows, positions, columns, heads, channels: the call's sizes.
        element_bytes: bytes of an element of the queries.
        processors: the number of the device's multiprocessors.
        attends: whether the output is computed too.
        per_head: whether each head has planes of its own, so that no sums meet.
    """
    width, depth = cover(columns).total, cover(channels).total
    if element_bytes == 4 or width > 160:
        block = SMALLEST
    elif width > 128 or depth > 128:
        block = 32
    else:
        block = 64
    wanted = PROGRAMS * processors
    while block > SMALLEST and not per_head:
        if rows * -(-positions // block) * min(heads, MOST_SHARES) >= wanted:
            break
        block //= 2
    programs = rows * -(-positions // block)
    splits = min(heads, max(1, -(-wanted // programs)))
    loaded = (width * (2 if attends else 1) + block) * depth * element_bytes
    stages = 2 if 2 * loaded <= SHARED_BYTES and heads > splits else 1
    return Blocks(block, 0, splits, 4, stages)


@lru_cache(maxsize=1024)
def for_columns(columns: int, channels: int, element_bytes: int) -> Blocks:
    """How the work is cut where there are more columns than a tile holds."""
    depth = cover(channels).total * element_bytes
    # A float32 product is three products of the tensor cores, with as many operands in registers.
    block, tile = (64, 64) if element_bytes < 4 else (16, 32)
    tile = min(tile, cover(columns).main)
    while _loop_bytes(block, tile, depth, 1) > SHARED_BYTES and tile > SMALLEST:
        block, tile = max(SMALLEST, block // 2), tile // 2
    stages = 2 if _loop_bytes(block, tile, depth, 2) <= SHARED_BYTES else 1
    return Blocks(block, tile, 1, 4, stages)


def _loop_bytes(block: int, tile: int, depth: int, stages: int) -> int:
    """Bytes of the queries, which stay, and of the tiles of keys and values under way."""
    return (block + 2 * stages * tile) * depth
