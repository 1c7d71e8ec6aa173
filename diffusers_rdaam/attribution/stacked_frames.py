"""Frames whose maps lie one below another in the maps of one record, as videos are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.left_out import QUERIES, QUERIES_OF_A_FRAME
from diffusers_rdaam.attribution.record import AnyRecord
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError


def split_frames(stacked: AnyRecord, frames: int) -> tuple[AnyRecord, ...]:
    """The record of each frame; its maps are views of the stacked ones.

    Of self-attention each frame has that of its positions to the positions of the same frame.
    Queries are left out.

    Args:
        stacked: of which every grid is as high as ``frames`` of a frame; its image size is a
            frame's, and it has no image.
        frames: number of frames.

    Raises:
        InputError: the frames do not divide the height of a grid.
    """
    return tuple(_frame(stacked, index, frames) for index in range(frames))


def _frame(record: AnyRecord, index: int, frames: int) -> AnyRecord:
    kept, negative = record.kept, record.negative_attribution
    return replace(
        record,
        grids=tuple(_grid(grid, _rows(grid.maps.shape[1], index, frames)) for grid in record.grids),
        kept=None if kept is None else _kept(kept, index, frames),
        negative_attribution=None if negative is None else _frame(negative, index, frames),
        vocabulary={text: _frame(one, index, frames) for text, one in record.vocabulary.items()},
        switched=tuple(_frame(one, index, frames) for one in record.switched),
        self_grids=tuple(_self_grids(record.self_grids, index, frames)),
        queries=None,
        left_out={**record.left_out, QUERIES: QUERIES_OF_A_FRAME},
    )


def _grid(grid: Grid, rows: slice) -> Grid:
    squares = None if grid.squares is None else grid.squares[:, rows]
    return replace(grid, maps=grid.maps[:, rows], squares=squares)


def _kept(kept: KeptMaps, index: int, frames: int) -> KeptMaps:
    details = tuple(
        replace(one, maps=one.maps[:, :, :, _rows(one.maps.shape[3], index, frames)])
        for one in kept.details
    )
    return replace(kept, details=details)


def _self_grids(grids: Iterable[SelfGrid], index: int, frames: int) -> Iterable[SelfGrid]:
    for grid in grids:
        height, width = grid.size
        rows = _rows(height, index, frames)
        positions = slice(rows.start * width, rows.stop * width)
        size = (rows.stop - rows.start, width)
        yield replace(grid, sums=grid.sums[positions, positions], size=size)


def _rows(height: int, index: int, frames: int) -> slice:
    """The rows of a grid that are a frame's."""
    each, rest = divmod(height, frames)
    if rest or not each:
        raise InputError(
            f"A grid with the maps of {frames} frames one below another has a height that they "
            f"divide; got {height}."
        )
    return slice(index * each, (index + 1) * each)
