"""DAAM-I2I 0.2.0: self-attention of the 64x64 grid, sums over steps, both halves of a guided batch.

An attribution has the rows of the prompt alone, which is right; here both halves are recorded as
if they were two images, and added as DAAM-I2I adds them.
"""

from __future__ import annotations

import json

import pytest
import torch
from i2i_results import IMAGE, SIDE, recorded_halves, results

from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention
from diffusers_rdaam.compat.daami2i.formulas import (
    box_cells,
    contour_cells,
    diffuse_all,
    diffuse_cell,
    global_map,
    mean_of_cells,
)
from diffusers_rdaam.errors import InputError
from tests.parity.conftest import STEPS, Stored


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored.load("daami2i_p0_simple")


@pytest.fixture(scope="module")
def halves(stored):
    return recorded_halves(stored.facts["prompt"], Stored.load("init").tensors["latents"])


@pytest.fixture(scope="module")
def maps(halves):
    return global_map(halves, STEPS)


@pytest.mark.slow
def test_every_result(maps, stored, close):
    ours = results(maps, stored)
    assert set(ours) == set(stored.tensors) - {"guide"}
    for name, values in ours.items():
        close(values, stored.tensors[name])


def test_cells_of_contours(stored):
    cells = contour_cells(json.loads(stored.facts["contour"]), IMAGE, SIDE)
    assert cells == json.loads(stored.facts["contour_cells"])
    wanted = json.loads(stored.facts["segment_cells"])
    flats = json.loads(stored.facts["segments"])
    for flat, found in zip(flats, wanted, strict=True):
        points = list(zip(flat[::2], flat[1::2], strict=True))
        assert contour_cells(points, IMAGE, SIDE) == sorted(found)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda g: box_cells(10, 20, 25, 64, SIDE), "The box (10, 20, 25, 64) of cells, ends incl"),
        (lambda g: mean_of_cells(g, []), "No cell of the grid is inside"),
        (lambda g: mean_of_cells(g, [0], torch.zeros(4)), "The guide sums to 0 in these cells"),
        (
            lambda g: diffuse_cell(g, 0, iterations=1, threshold=0.02),
            "Nothing is 0.02 over a map's minimum, so the cut leaves nothing of it and DAAM-I2I's "
            "next mean would be 0 / 0. Give a smaller threshold, or ask "
            "attribution.self_attention.diffused(…), whose threshold scales with the map.",
        ),
    ],
)
def test_where_theirs_is_wrong_ours_refuses(ask, text):
    with pytest.raises(InputError) as error:
        ask(torch.full((4, 4), 0.25))
    assert text in str(error.value)


@pytest.mark.slow
def test_our_own_answer_is_the_conditional_half(halves, maps, stored):
    """Ours of a region is DAAM-I2I's once the unconditional half is taken away: another map."""
    conditional = global_map(halves[1:], STEPS)
    own = SelfAttention((halves[1],), SIDE)
    box = own.box((10, 20, 26, 41))
    wanted = mean_of_cells(conditional, box_cells(10, 20, 25, 40, SIDE)).view(SIDE)
    torch.testing.assert_close(box.values, wanted * 4096 / STEPS, rtol=1e-4, atol=1e-5)
    theirs = stored.tensors["bbox_10_20_25_40"]
    assert (wanted - theirs).abs().max() > 0.01 * theirs.max()


def test_diffusion_of_all_is_that_of_each_row():
    """No stored result has it: by the formula, on a small grid."""
    torch.manual_seed(0)
    small = torch.softmax(3 * torch.randn(24, 24), dim=0)
    rows = small.clone()
    rows[rows < rows.amin(dim=1, keepdim=True) + 0.02] = 0
    for _ in range(2):
        rows = (rows / rows.sum(dim=1, keepdim=True)) @ small
        rows[rows < rows.amin(dim=1, keepdim=True) + 0.02] = 0
    torch.testing.assert_close(diffuse_all(small, iterations=2, threshold=0.02), rows)
    torch.testing.assert_close(diffuse_cell(small, 5, iterations=2, threshold=0.02), rows[5])
