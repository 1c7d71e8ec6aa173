"""The definition's result in tiles of image positions, on any device.

Only one tile of logits exists at a time, so the extra memory grows neither with the image nor with
the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from diffusers_rdaam import float32_products
from diffusers_rdaam.kernels.checks import check, check_squares
from diffusers_rdaam.kernels.logits import Logits
from diffusers_rdaam.kernels.planes import add_to_planes
from diffusers_rdaam.kernels.rows import recorded_rows
from diffusers_rdaam.shapes import (
    AttentionMask,
    HeadMeans,
    Key,
    LogSums,
    Query,
    RecordedPlane,
    SquaresPlane,
)

# Logits in a tile. On a processor 1 MiB of float32, which stays in its second-level cache: whole
# grids cost up to a third more. Elsewhere a tile costs a dozen kernel launches, so few are made.
CELLS_ON_CPU = 2**18
CELLS_ELSEWHERE = 2**22
# Shorter tiles would cost more in calls than in arithmetic.
SHORTEST_TILE = 64

_LOG2_E = math.log2(math.e)


def accumulate(
    query: Query,
    key: Key,
    high: RecordedPlane,
    low: RecordedPlane | None,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    lse: LogSums | None = None,
    count: Tensor | None = None,
    first: int | None = None,
    tile: int | None = None,
) -> None:
    """Add the head-mean probabilities of every row to the planes ``(rows, tokens, pixels)``.

    Planes ``(rows, heads, tokens, pixels)`` take the probabilities of each head instead.

    Logits are float32 whatever the inputs' type and the host's settings, and autocast is off: bf16
    logits would change the probabilities by up to 3 %. Only in-place tensor operations, so that a
    compiled denoiser neither breaks its graph nor recompiles.

    Args:
        query, key, high, low, mask, scale, lse: see :mod:`diffusers_rdaam.kernels.reference`. With
            ``lse`` the keys are the columns to record, of the text in a joint sequence or all, and
            a mask that is to hide a column from a position is ``-inf`` there: next to the finite
            minimum of a type nothing is left of a logit.
        count: one integer, the number of additions; 1 is added.
        first: the row whose maps go to the planes' first, and those after it to the others; None
            where the planes have all rows.
        tile: image positions at a time; chosen by the device's cache if None.

    Raises:
        InputError: shapes, types or devices do not match.
    """
    if not check(query, key, high, low, mask=mask, lse=lse, first=first):
        return
    query, key, mask, lse = recorded_rows(query, key, mask, lse, first=first, images=high.shape[0])
    if count is not None:
        count.add_(1)
    per_head = high.ndim == 4
    for row, part, maps in _tiles(query, key, mask, scale, lse, per_head=per_head, tile=tile):
        remainder = None if low is None else low[row, ..., part]
        add_to_planes(maps, high[row, ..., part], remainder)


def accumulate_squares(
    query: Query,
    key: Key,
    squares: SquaresPlane,
    *,
    mask: AttentionMask | None = None,
    scale: float,
    lse: LogSums | None = None,
    count: Tensor | None = None,
    first: int | None = None,
    tile: int | None = None,
) -> None:
    """Add the mean over the heads of the squared probabilities to a float32 plane.

    The square of a probability of 1e-5 is far below half precision's range; in float32 the sum of
    thousands of them is right to 1e-4 of itself.

    Args:
        query, key, mask, scale, lse, count, first, tile: see :func:`accumulate`.
        squares: float32 ``(rows, tokens, pixels)``.

    Raises:
        InputError: shapes, types or devices do not match.
    """
    if not check_squares(query, key, squares, mask=mask, lse=lse, first=first):
        return
    query, key, mask, lse = recorded_rows(
        query, key, mask, lse, first=first, images=squares.shape[0]
    )
    if count is not None:
        count.add_(1)
    for row, part, maps in _tiles(query, key, mask, scale, lse, per_head=True, tile=tile):
        squares[row, :, part] += maps.square_().mean(dim=1)


def _tiles(
    query: Query,
    key: Key,
    mask: AttentionMask | None,
    scale: float,
    lse: LogSums | None,
    *,
    per_head: bool,
    tile: int | None,
) -> Iterator[tuple[slice, slice, HeadMeans]]:
    """The maps of one tile after another, with its rows and positions; each may be overwritten."""
    rows, heads, pixels, _ = query.shape
    positions = tile or tile_positions(heads * key.shape[2], query.device)
    # Whole rows together only where one tile holds them; each alone, no query is ever copied.
    step = max(1, positions // pixels)
    if mask is not None:
        mask = added_mask(mask, rows)
    if lse is not None:
        lse = _shift(lse, heads=1 if per_head else heads, masked=mask is not None)
    # Where each operator is a launch, one operator computes the softmax. On the CPU, and with a
    # log-sum-exp, powers of 2 are taken: on a CPU they need a quarter of the time of powers of e. A
    # mask is not multiplied with log2(e), because its finite minimum would overflow.
    together = lse is None and float32_products.device_type(query.device) != "cpu"
    softmax = _softmax_elsewhere if together else _softmax
    with _without_autocast(query.device.type):
        logits = Logits.of(query, key, scale if together or mask is not None else scale * _LOG2_E)
        for begin in range(0, rows, step):
            row = slice(begin, begin + step)
            for start in range(0, pixels, positions):
                part = slice(start, start + positions)
                cut = None if mask is None else _cut(mask[row], part)
                queries = query[row, :, part]
                if lse is not None:
                    powers = logits[row](queries, lse[row, :, part])
                    yield row, part, _exponentials(powers, cut, per_head=per_head)
                else:
                    yield row, part, softmax(logits[row](queries), cut, per_head=per_head)


def _without_autocast(device: str) -> AbstractContextManager[object]:
    # Asking whether autocast is on takes a tenth of the time of switching it off.
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device_type=device, enabled=False)


def tile_positions(cells_per_position: int, device: torch.device) -> int:
    """How many image positions a tile has where each has ``cells_per_position`` logits.

    A power of two: a tenth is lost where the rows of logits end within a vector register.
    """
    cells = CELLS_ON_CPU if float32_products.device_type(device) == "cpu" else CELLS_ELSEWHERE
    most = max(SHORTEST_TILE, cells // cells_per_position)
    return 1 << (most.bit_length() - 1)


def _softmax(powers: Tensor, mask: AttentionMask | None, *, per_head: bool) -> HeadMeans:
    """The softmax over the tokens of one tile: the mean over the heads, or each head's.

    Args:
        powers: the logits, times log2(e) where there is no mask; overwritten.
        mask: the tile's, as what is added to the logits.
        per_head: whether the heads are kept.
    """
    if mask is not None:
        powers += mask.transpose(-1, -2)
    powers -= powers.amax(dim=-2, keepdim=True)
    if mask is not None:
        powers *= _LOG2_E
    powers.exp2_()
    heads = 1 if per_head else powers.shape[1]
    powers *= powers.sum(dim=-2, keepdim=True).mul_(heads).reciprocal_()
    if mask is not None:
        # A position whose tokens are all masked with -inf attends to nothing.
        powers.nan_to_num_(0.0)
    return powers if per_head else powers.sum(dim=1)


def _softmax_elsewhere(logits: Tensor, mask: AttentionMask | None, *, per_head: bool) -> HeadMeans:
    """:func:`_softmax` in as few operators as possible, where each of them is a launch."""
    if mask is not None:
        logits += mask.transpose(-1, -2)
    maps = logits.softmax(dim=-2)
    if mask is not None:
        maps.nan_to_num_(0.0)
    return maps if per_head else maps.mean(dim=1)


def _shift(lse: LogSums, *, heads: int, masked: bool) -> Tensor:
    """What is added to the logits for a mean over ``heads``, ``(rows, heads, pixels)``."""
    # A position that attends to nothing has -inf, or NaN from some kernels.
    shift = torch.where(lse > -torch.inf, lse, torch.inf).neg_().sub_(math.log(heads))
    return shift if masked else shift.mul_(_LOG2_E)


def _exponentials(powers: Tensor, mask: AttentionMask | None, *, per_head: bool) -> HeadMeans:
    """The probabilities of one tile from logits whose log-sum-exp has been subtracted."""
    if mask is not None:
        powers += mask.transpose(-1, -2)
        powers *= _LOG2_E
    powers.exp2_()
    return powers if per_head else powers.sum(dim=1)


def added_mask(mask: AttentionMask, rows: int) -> Tensor:
    """The mask as what is added to the logits, expanded to all rows."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(~mask, -torch.inf)
    return mask.expand(rows, -1, -1, -1)


def _cut(mask: AttentionMask, part: slice) -> Tensor:
    return mask if mask.shape[2] == 1 else mask[:, :, part]
