"""DAAM-I2I's formulas, for who wants its numbers: grid cells instead of pixels, sums of steps.

Its global map is ``G[k, q]``: how much cell ``q`` attends to cell ``k``, the sum over steps of the
mean over sites and heads; ``(cells, height, width)`` there, here ``(cells, cells)``. Cells count
row by row. Ours otherwise: its boxes are inclusive, a contour's corners are cut down to whole
cells and cells on its edge are outside, and diffusion cuts at a threshold over the minimum that
does not scale with the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.shapes import CellMap, SelfSums, Size

Points = Sequence[tuple[float, float]]


def global_map(grids: Sequence[SelfGrid], steps: int) -> SelfSums:
    """``G`` of one grid, the mean over what was recorded of several rows of a batch.

    Args:
        grids: of the unconditional and the conditional rows, which DAAM-I2I adds; or of one.
        steps: of the run; its map is their sum.
    """
    means = [grid.sums.float() * (steps / grid.additions) for grid in grids]
    return sum(means[1:], means[0]) / len(means)


def box_cells(left: int, top: int, right: int, bottom: int, size: Size) -> list[int]:
    """Cells of a box in cells, both ends included.

    Raises:
        RegionError: it reaches beyond the grid, where DAAM-I2I goes on in the next row.
    """
    height, width = size
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise RegionError(
            f"The box {(left, top, right, bottom)} of cells, ends included, does not lie in a grid "
            f"of {width} by {height} cells."
        )
    return [y * width + x for y in range(top, bottom + 1) for x in range(left, right + 1)]


def contour_cells(points: Points, image_size: Size, size: Size) -> list[int]:
    """Cells strictly inside an outline in pixels, whose corners are cut down to whole cells.

    What ``cv2.pointPolygonTest`` of OpenCV says of each cell's upper left corner.

    Args:
        points: ``(x, y)`` in pixels.
        image_size, size: height and width of the image and of the grid.
    """
    height, width = size
    scale = _doubles([width / image_size[1], height / image_size[0]])
    corners = (_doubles(points) * scale).to(torch.int32).double()
    y, x = torch.meshgrid(_numbers(height), _numbers(width), indexing="ij")
    cells = torch.stack([x, y], dim=-1).double().reshape(-1, 1, 2)
    start, end = corners - cells, corners.roll(-1, dims=0) - cells
    cross = start[..., 0] * end[..., 1] - start[..., 1] * end[..., 0]
    # A cell lies on an edge where both ends are in line with it, and on opposite sides or on it.
    on_edge = (cross == 0) & ((start * end).sum(dim=-1) <= 0)
    upward = (start[..., 1] <= 0) & (end[..., 1] > 0) & (cross > 0)
    downward = (start[..., 1] > 0) & (end[..., 1] <= 0) & (cross < 0)
    inside = ((upward | downward).sum(dim=1) % 2 == 1) & ~on_edge.any(dim=1)
    return inside.nonzero().flatten().tolist()


def _doubles(values: Sequence[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _numbers(count: int) -> torch.Tensor:
    return torch.arange(count, device="cpu")


@in_full_precision
def mean_of_cells(maps: SelfSums, cells: Sequence[int], guide: CellMap | None = None) -> CellMap:
    """Mean of the maps of some cells, or weighted with a guide's values there.

    A cell counts as often as it is given, as where the polygons of a segmentation overlap.

    Raises:
        RegionError: there is no cell.
        InputError: the guide is 0 there.
    """
    if not cells:
        raise RegionError("No cell of the grid is inside; DAAM-I2I would divide by zero.")
    index = torch.tensor(list(cells), device=maps.device)
    weights = maps.new_ones(len(index)) if guide is None else guide.flatten()[index]
    total = weights.sum()
    if not float(total):
        raise InputError("The guide sums to 0 in these cells, so there is no weighted mean.")
    return multiply(weights, maps[index]) / total


def guided(maps: SelfSums, guide: CellMap) -> CellMap:
    """Mean of all maps, weighted with a guide."""
    return mean_of_cells(maps, range(len(maps)), guide)


def diffuse_cell(maps: SelfSums, cell: int, *, iterations: int, threshold: float) -> CellMap:
    """A cell's map, cut at ``threshold`` over its minimum, then guided by itself, again and again.

    Raises:
        InputError: the cut left nothing.
    """
    cells = _cut(maps[cell][None], threshold)[0]
    for _ in range(iterations):
        cells = _cut(guided(maps, cells)[None], threshold)[0]
    return cells


@in_full_precision
def diffuse_all(maps: SelfSums, *, iterations: int, threshold: float) -> SelfSums:
    """The diffusion of every cell at once, with rows that sum to 1 in between; two maps more.

    Raises:
        InputError: the cut left nothing of a row.
    """
    rows = _cut(maps, threshold)
    for _ in range(iterations):
        rows = _cut(multiply(rows / rows.sum(dim=1, keepdim=True), maps), threshold)
    return rows


def _cut(rows: torch.Tensor, threshold: float) -> torch.Tensor:
    rows = rows.where(rows >= rows.amin(dim=1, keepdim=True) + threshold, 0.0)
    if bool((rows.sum(dim=1) == 0.0).any()):
        raise InputError(
            f"Nothing is {threshold:g} over a map's minimum, so the cut leaves nothing of it and "
            "DAAM-I2I's next mean would be 0 / 0. Give a smaller threshold, or ask "
            "attribution.self_attention.diffused(…), whose threshold scales with the map."
        )
    return rows
