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

Each column's map is refined, cut at 0, and divided by the sum over all columns at its position:
with ``R_k`` the refined map of column ``k``, a word has ``sum over its columns of R_k`` over ``sum
over all columns of R_k``. That is the refined map wherever it is asked: of a heat map, or of a
refined attribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.left_out import MAPS, NOT_REFINED, SELF_ATTENTION, and_left_out
from diffusers_rdaam.attribution.record import AnyRecord, Record
from diffusers_rdaam.attribution.self_grid import SelfGrid, kept_self_grids, largest_size
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import resampled
from diffusers_rdaam.shapes import Column, GridMaps, Size, Weights

Refinement = Literal["product", "guided", "power", "ovam", "none"]
# What helps most on the embedded model, at every threshold.
DEFAULT_REFINEMENT: Refinement = "product"
# As in OVAM's recipe for its VOC images.
OVAM_FLOOR = 0.85


def refined_pixels(
    attribution: Record, columns: Sequence[int], size: Size, method: Refinement
) -> Column:
    """The sum of some columns' refined maps, at ``size`` (height, width) in pixels.

    The refined maps of all columns are kept with the attribution for the next word.
    """
    refined = attribution.refined_records
    if method not in refined:
        refined[method] = refine_record(attribution, method)
    return refined[method].pixels(columns, size=size)


def refine_record(attribution: AnyRecord, method: Refinement) -> AnyRecord:
    """The refined record that :meth:`Attribution.refined` returns."""
    check_refinement(method)
    kept_self_grids(attribution.self_grids, attribution.left_out.get(SELF_ATTENTION))
    if method == "none":
        return attribution
    grid = refining_grid(attribution)
    columns = tuple(range(len(attribution.prompt.tokens)))
    maps = maps_on(attribution, columns, grid.size).flatten(1)
    cells = refine(grid, maps, method).clamp(min=0.0)
    if attribution.prompt.has_rest:
        # The rest is most of the attention of a joint site, and nearly flat. Stretched from 0 to 1
        # it would vanish somewhere, and every word's share rise there.
        cells[-1] = maps[-1].clamp(min=0.0)
    # Guided maps and powers sum to 1 already, but for rounding; others do not.
    cells /= cells.sum(dim=0).clamp(min=1e-30)
    additions = sum(grid.additions for grid in attribution.grids)
    sites = tuple(site for grid in attribution.grids for site in grid.sites)
    merged = Grid(cells.view(-1, *grid.size), additions, sites)
    # Thresholds are by what the maps are.
    run = {**attribution.run, "refined": method}
    left_out = and_left_out(attribution.left_out, NOT_REFINED, MAPS)
    return replace(attribution, grids=(merged,), kept=None, run=run, left_out=left_out)


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
        return maps * _stretched(mutual_attention(grid, maps))
    return maps


@in_full_precision
def maps_on(attribution: Record, columns: tuple[int, ...], size: Size) -> GridMaps:
    """The maps of columns on a grid of another size, all grids of the text together."""
    result = torch.zeros(len(columns), *size, dtype=torch.float32, device="cpu")
    for grid, part in zip(attribution.grids, attribution.grid_shares, strict=True):
        result += part * resampled(grid.maps[list(columns)], size)
    return result


def refining_grid(attribution: Record) -> SelfGrid:
    """The self-attention that maps are refined with: the finest grid's.

    Where the sites of that grid were kept separately, it is the one of the site whose ``S m``
    correlates best with the words' maps ``m``, in the mean over the words of the prompt: a choice
    without labels.

    Raises:
        NoAttributionError: the run did not keep its self-attention.
    """
    grids = kept_self_grids(attribution.self_grids, attribution.left_out.get(SELF_ATTENTION))
    size = largest_size(grids)
    candidates = [grid for grid in grids if grid.size == size]
    if len(candidates) == 1:
        return candidates[0]
    words = [word.columns for word in attribution.prompt.words if word.columns]
    if not words:
        return candidates[-1]
    maps = torch.stack([maps_on(attribution, columns, size).sum(dim=0) for columns in words])
    return max(candidates, key=lambda grid: float(agreement(grid, maps.flatten(1)).mean()))


@in_full_precision
def agreement(grid: SelfGrid, maps: Weights) -> Tensor:
    """The correlation over the positions of ``S m`` with ``m``, of each map ``m``."""
    spread = mutual_attention(grid, maps)
    spread = spread - spread.mean(dim=1, keepdim=True)
    maps = maps - maps.mean(dim=1, keepdim=True)
    lengths = spread.norm(dim=1) * maps.norm(dim=1)
    return (spread * maps).sum(dim=1) / lengths.clamp(min=1e-30)


@in_full_precision
def mutual_attention(grid: SelfGrid, maps: Weights) -> Weights:
    """``S m`` of each map, with ``S`` the rows of ``A + A.T`` over their sums."""
    ones = maps.new_ones(1, grid.positions)
    mutual = grid.attention_to(maps) + grid.attention_from(maps)
    # A joint site's rows sum to what is not text, and not to 1.
    return mutual / (grid.attention_to(ones) + grid.attention_from(ones)).clamp(min=1e-30)


def _stretched(maps: Weights) -> Weights:
    """Each map from 0 to 1 (min-max); 1 where it is flat, so that a product changes nothing."""
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 1.0)


def check_refinement(method: str) -> None:
    """Raise :class:`InputError` where there is no such refinement."""
    check_choice(method, Refinement, "a refinement")
