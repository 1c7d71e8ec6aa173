"""Grids to pixels and back: bicubic interpolation as a pair of matrices.

Enlarging a grid map ``m`` to an image is ``rows @ m @ columns.T``. It is linear, and so the mean of
the enlarged map over a region is the dot product of the grid map with ``rows.T @ w @ columns``,
where ``w`` are the region's weights: the answer for a region needs no image-sized map.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.shapes import (
    CellWeights,
    Column,
    GridWeights,
    Interpolation,
    PixelShares,
    Size,
    SizedMaps,
)

# Signals that are one at every so many cells: each cell has a neighbourhood to itself.
COMBS = 8
# Pixels of a band of the matrix.
BAND = 64
# Numbers of a matrix that is kept for the next question: 4 MiB.
KEPT = 2**20


def interpolation_matrix(cells: int, pixels: int) -> Interpolation:
    """The ``(pixels, cells)`` matrix of torch's bicubic interpolation along one axis.

    Cubic convolution of Keys (1981) with a = -0.75, pixel centres aligned, border repeated, no
    anti-aliasing. Every row sums to one, so a distribution over tokens stays one at every pixel.
    The matrix is shared: do not write to it.
    """
    return _kept(cells, pixels) if cells * pixels <= KEPT else _matrix(cells, pixels)


@lru_cache(maxsize=64)
def _kept(cells: int, pixels: int) -> Interpolation:
    return _matrix(cells, pixels)


@torch.inference_mode(False)
@torch.no_grad()
def _matrix(cells: int, pixels: int) -> Interpolation:
    """The matrix from the enlargement of :data:`COMBS` signals, in time linear in its size.

    A pixel depends on four neighbouring cells only, and of eight neighbours each is one in another
    signal. What is made under inference mode could not be used outside of it with gradients.
    """
    cell = torch.arange(cells, device="cpu")
    pixel = torch.arange(pixels, device="cpu")
    combs = torch.stack([cell % COMBS == i for i in range(min(COMBS, cells))]).double()
    size = (pixels, 1)
    weights = F.interpolate(combs[:, None, :, None], size, mode="bicubic", align_corners=False)
    centre = ((pixel.double() + 0.5) * cells / pixels - 0.5).floor().long()
    matrix = torch.zeros(pixels, cells, dtype=torch.float32, device="cpu")
    for i in range(COMBS):
        near = centre + i - COMBS // 2 + 1
        rows = pixel[(near >= 0) & (near < cells)]
        columns = near[rows]
        matrix[rows, columns] = weights[columns % COMBS, 0, rows, 0].float()
    return matrix


@in_full_precision
def enlarge(grid: GridWeights, height: int, width: int) -> Column:
    """A grid map as an image-sized one."""
    rows = interpolation_matrix(grid.shape[0], height)
    columns = interpolation_matrix(grid.shape[1], width)
    return multiply(multiply(rows, grid), columns.T)


@in_full_precision
def resampled(maps: SizedMaps, size: Size) -> SizedMaps:
    """Maps ``(maps, height, width)`` on a grid of another size: bicubic, filtered if they shrink.

    Without its filter a map that shrinks would be read at points between which it is lost.
    """
    if tuple(maps.shape[1:]) == size:
        return maps
    shrinks = maps.shape[1] > size[0] or maps.shape[2] > size[1]
    return F.interpolate(maps[None], size, mode="bicubic", antialias=shrinks)[0]


def pull_back(weights: Column, grid_height: int, grid_width: int) -> GridWeights:
    """The adjoint of :func:`enlarge`: pixel weights as weights of a grid's cells."""
    size = (weights.shape[0], weights.shape[1])
    return pull_back_part(weights, (0, 0), size, ((grid_height, grid_width),))[0]


@in_full_precision
def pull_back_part(
    weights: CellWeights,
    corner: tuple[int, int],
    size: tuple[int, int],
    grids: tuple[tuple[int, int], ...],
) -> list[CellWeights]:
    """:func:`pull_back` to several grids, of weights that are zero outside of a part of the image.

    Args:
        weights: of the part, ``(height, width)`` in pixels.
        corner: the first row and the first column of the part.
        size: height and width of the image.
        grids: height and width of each grid.
    """
    top, left = corner
    bottom, right = top + weights.shape[0], left + weights.shape[1]
    heights = tuple(height for height, _ in grids)
    rows = torch.zeros(sum(heights), right - left, dtype=torch.float32, device="cpu")
    bands = _bands(heights, size[0])
    for number in range(top // BAND, -(-bottom // BAND)):
        cells, matrix = bands[number]
        start = number * BAND
        first, last = max(start, top), min(start + BAND, bottom)
        part = multiply(matrix[:, first - start : last - start], weights[first - top : last - top])
        rows.index_add_(0, cells, part)
    return [
        multiply(part, interpolation_matrix(width, size[1])[left:right])
        for part, (_, width) in zip(rows.split(heights), grids, strict=True)
    ]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
@torch.no_grad()
def _bands(heights: tuple[int, ...], pixels: int) -> list[tuple[Tensor, Tensor]]:
    """For each :data:`BAND` pixels, the cells in which they have a part, and the part.

    A pixel has a part in four cells, so that most of an interpolation matrix is zero. Products of
    bands leave most of that out, and one product is for all grids: their cells count through.

    Args:
        heights: the number of cells of each grid.
        pixels: the number of pixels.
    """
    bands = []
    matrix = torch.cat([interpolation_matrix(cells, pixels) for cells in heights], dim=1)
    for rows in matrix.split(BAND):
        cells = (rows != 0.0).any(dim=0).nonzero()[:, 0]
        bands.append((cells, rows[:, cells].T.contiguous()))
    return bands


@in_full_precision
def pull_back_box(
    box: tuple[int | float, int | float, int | float, int | float],
    size: tuple[int, int],
    grid: tuple[int, int],
) -> GridWeights:
    """:func:`pull_back` of a box's uniform weights, from two sums of a few matrix rows.

    Args:
        box: ``(left, top, right, bottom)`` in pixels, half-open, inside the image.
        size: height and width of the image.
        grid: height and width of the grid.
    """
    left, top, right, bottom = box
    rows = _mean_row(interpolation_matrix(grid[0], size[0]), top, bottom)
    columns = _mean_row(interpolation_matrix(grid[1], size[1]), left, right)
    return torch.outer(rows, columns)


def pixel_shares(first: int | float, last: int | float, pixels: int) -> PixelShares:
    """The share of each pixel of one axis that lies between two edges."""
    starts = torch.arange(pixels, dtype=torch.float64, device="cpu")
    covered = (starts + 1.0).clamp(max=last) - starts.clamp(min=first)
    return covered.clamp(0.0, 1.0).float()


def _mean_row(matrix: Interpolation, first: int | float, last: int | float) -> PixelShares:
    if isinstance(first, int) and isinstance(last, int):
        return matrix[first:last].mean(dim=0)
    shares = pixel_shares(first, last, matrix.shape[0])
    return multiply(shares / shares.sum(), matrix)
