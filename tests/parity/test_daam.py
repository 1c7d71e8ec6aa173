"""DAAM 0.2.0: sums over the steps of every site but those of the 8x8 grid, on 64x64 cells.

DAAM enlarges the map of each head by itself and cuts off what bicubic interpolation makes negative
before it averages. An attribution holds means over the heads, of which the cut cannot be made
after the fact; it moves the maps of the coarser grids by up to a tenth of their maximum. So the
finest grid, which is not enlarged, is compared as it is; and the whole with the heads of our own
run, whose means are shown to be the attribution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

STEPS = 4
SIDE = 64


def enlarged(maps: torch.Tensor) -> torch.Tensor:
    return F.interpolate(maps, size=(SIDE, SIDE), mode="bicubic")


def global_map(heads: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
    """DAAM's global heat map ``(77, 64, 64)``: the mean over heads and sites, without 8x8."""
    kept = [enlarged(maps).clamp(min=0) for size, maps in heads.items() if size != (8, 8)]
    return torch.cat(kept).mean(dim=0)


def test_the_grids_are_those_of_daam(attribution):
    assert [grid.size for grid in attribution.grids] == [(64, 64), (32, 32), (16, 16), (8, 8)]
    assert [len(grid.sites) for grid in attribution.grids] == [3, 3, 3, 1]
    assert all(grid.additions == STEPS * len(grid.sites) for grid in attribution.grids)


def test_the_finest_grid_as_it_is(attribution, daam, close):
    stored = daam.tensors["global.factors_1"]
    # The start token, the prompt's, and the first end token.
    assert [t.kind for t in attribution.prompt.tokens[: len(stored)]] == [
        "start",
        *["text"] * (len(stored) - 2),
        "end",
    ]
    close(STEPS * attribution.grids[0].maps[: len(stored)], stored)


def test_the_attribution_is_the_mean_of_the_heads(attribution, heads, close):
    for grid in attribution.grids:
        close(grid.maps, heads[grid.size].mean(dim=0) / STEPS)


def test_the_global_heat_map_from_the_heads(heads, daam, close):
    stored = daam.tensors["global.default"]
    close(global_map(heads)[: len(stored)], stored)


def test_the_cut_at_zero_is_all_that_the_mean_over_heads_lacks(attribution, daam):
    stored = daam.tensors["global.default"]
    maps = [STEPS * enlarged(grid.maps[None])[0] for grid in attribution.grids[:3]]
    ours = torch.stack(maps).mean(dim=0)[: len(stored)]
    difference = (ours - stored) / stored.max()
    assert difference.max() < 1e-4, "the cut only ever adds"
    assert -0.1 < difference.min() < -1e-3
    assert (difference.abs() < 1e-4).float().mean() > 0.8


def test_word_heat_maps(attribution, heads, daam, close):
    """DAAM's map of a word is the mean over the tokens of all its occurrences, ours the sum."""
    total = global_map(heads)
    assert len(daam.facts["words"]) >= 5
    compared = 0
    for index, entry in daam.facts["words"].items():
        close(total[entry["columns"]].mean(dim=0), daam.tensors[f"word.{index}"])
        # With word_idx or offset_idx DAAM takes whatever stands at that place.
        if not entry["kwargs"]:
            columns = attribution.prompt.find(entry["word"]).columns
            assert list(columns) == entry["columns"]
            compared += 1
    assert compared >= 5
