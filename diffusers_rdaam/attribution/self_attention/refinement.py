"""Refinement: the maps of words, corrected by which positions attend to each other.

With ``A`` the self-attention (rows are positions that attend, and sum to 1) and ``m`` a map on its
grid:

* ``guided``: ``A m``, the attention to the word's map (DAAM-I2I's guided map);
* ``power``: ``A A m`` (GoCA);
* ``ovam``: ``m`` times the self-attention stretched to 0.85 to 1, as OVAM does it; its own
  self-attention is the same number everywhere, so here it is ``A m``;
* ``product``: ``m`` times ``S m`` stretched to 0 to 1, where ``S`` is ``A + A.T`` with rows that
  sum to 1: what the word has, as far as those positions have it that attend to this one or that it
  attends to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.record import AnyRecord, Record
from diffusers_rdaam.attribution.self_grid import SelfGrid, finest, kept_self_grids
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.shapes import Column, GridMaps, Size, Weights

Refinement = Literal["product", "guided", "power", "ovam", "none"]
# What helps most on the embedded model, at every threshold.
DEFAULT_REFINEMENT: Refinement = "product"
# As in OVAM's recipe for its VOC images.
OVAM_FLOOR = 0.85


def refined_pixels(
    attribution: Record,
    grid: SelfGrid,
    columns: tuple[int, ...],
    size: Size,
    method: Refinement,
) -> Column:
    """The sum of some columns' maps, refined, at ``size`` (height, width) in pixels."""
    maps = maps_on(attribution, columns, grid.size).sum(dim=0)
    cells = refine(grid, maps.flatten()[None], method)
    return enlarge(cells.view(grid.size), *size)


def refine_record(attribution: AnyRecord, method: Refinement) -> AnyRecord:
    """The refined record that :meth:`Attribution.refined` returns."""
    check_refinement(method)
    grid = finest(kept_self_grids(attribution.self_grids))
    if method == "none":
        return attribution
    columns = tuple(range(len(attribution.prompt.tokens)))
    maps = maps_on(attribution, columns, grid.size).flatten(1)
    cells = refine(grid, maps, method).clamp(min=0.0)
    # Guided maps and powers sum to 1 already, but for rounding; others do not.
    cells /= cells.sum(dim=0).clamp(min=1e-30)
    additions = sum(grid.additions for grid in attribution.grids)
    sites = tuple(site for grid in attribution.grids for site in grid.sites)
    merged = Grid(cells.view(-1, *grid.size), additions, sites)
    return replace(attribution, grids=(merged,), kept=None)


@in_full_precision
def refine(grid: SelfGrid, maps: Weights, method: Refinement) -> Weights:
    """Each map on the grid of the self-attention, refined."""
    if method == "guided":
        return grid.attention_to(maps)
    if method == "power":
        return grid.attention_to(grid.attention_to(maps))
    if method == "ovam":
        return maps * (OVAM_FLOOR + (1.0 - OVAM_FLOOR) * _stretched(grid.attention_to(maps)))
    if method == "product":
        ones = maps.new_ones(1, grid.positions)
        mutual = grid.attention_to(maps) + grid.attention_from(maps)
        return maps * _stretched(mutual / (1.0 + grid.attention_from(ones)))
    return maps


@in_full_precision
def maps_on(attribution: Record, columns: tuple[int, ...], size: Size) -> GridMaps:
    """The maps of columns on a grid of another size, all grids of the text together."""
    result = torch.zeros(len(columns), *size, dtype=torch.float32, device="cpu")
    for grid, part in zip(attribution.grids, attribution.grid_shares, strict=True):
        maps = grid.maps[list(columns)]
        # Without its filter a map that shrinks would be read at points between which it is lost.
        shrinks = grid.size[0] > size[0] or grid.size[1] > size[1]
        result += part * F.interpolate(maps[None], size, mode="bicubic", antialias=shrinks)[0]
    return result


def _stretched(maps: Weights) -> Weights:
    """Each map from 0 to 1 (min-max); 1 where it is flat, so that a product changes nothing."""
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 1.0)


def check_refinement(method: str) -> None:
    """Raise :class:`InputError` where there is no such refinement."""
    check_choice(method, Refinement, "a refinement")
