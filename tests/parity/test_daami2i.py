"""DAAM-I2I 0.2.0: self-attention of the 64x64 grid, sums over steps, both halves of a guided batch.

An attribution has the rows of the prompt alone, which is right; here both halves are recorded as
if they were two images, and added as DAAM-I2I adds them.
"""

from __future__ import annotations

import json

import pytest
import torch
from conftest import HERE, STEPS, Stored
from diffusers import StableDiffusionPipeline

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attribution.i2i import (
    box_cells,
    contour_cells,
    diffuse_all,
    diffuse_cell,
    global_map,
    guided,
    mean_of_cells,
)
from diffusers_rdaam.attribution.self_attention import SelfAttention

SIDE = (64, 64)
IMAGE = (512, 512)


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored.load("daami2i_p0_simple")


@pytest.fixture(scope="module")
def halves(stored):
    """The self-attention of the unconditional and of the conditional rows."""
    folder = HERE.parent / "data" / "tiny_sd"
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    template = RDAAMProcessor(self_attention=SIDE)
    settings = {"latents": Stored.load("init").tensors["latents"], "output_type": "latent"}
    with record_attention(pipe.unet, template, rows="conditional") as recording:
        pipe(stored.facts["prompt"], num_inference_steps=STEPS, guidance_scale=7.5, **settings)
    return [attribution.self_grids[0] for attribution in recording.attributions]


@pytest.fixture(scope="module")
def maps(halves):
    return global_map(halves, STEPS)


def test_maps_of_cells(maps, stored, close):
    close(maps[::512].view(-1, *SIDE), stored.tensors["global_rows"])
    close(mean_of_cells(maps, [2080]).view(SIDE), stored.tensors["pixel_single_2080"])
    close(mean_of_cells(maps, range(1024)).view(SIDE), stored.tensors["pixel_list_0_1023"])


def test_a_box_with_both_ends(maps, stored, close):
    cells = box_cells(10, 20, 25, 40, SIDE)
    close(mean_of_cells(maps, cells).view(SIDE), stored.tensors["bbox_10_20_25_40"])


def test_contours(maps, stored, close):
    guide = stored.tensors["guide"]
    cells = contour_cells(json.loads(stored.facts["contour"]), IMAGE, SIDE)
    assert cells == json.loads(stored.facts["contour_cells"])
    close(mean_of_cells(maps, cells).view(SIDE), stored.tensors["contour"])
    close(mean_of_cells(maps, cells, guide).view(SIDE), stored.tensors["contour_guided"])
    cells = []
    for flat in json.loads(stored.facts["segments"]):
        cells += contour_cells(list(zip(flat[::2], flat[1::2], strict=True)), IMAGE, SIDE)
    wanted = json.loads(stored.facts["segment_cells"])
    assert sorted(cells) == sorted(wanted[0] + wanted[1])
    close(mean_of_cells(maps, cells).view(SIDE), stored.tensors["segmentation"])
    close(mean_of_cells(maps, cells, guide).view(SIDE), stored.tensors["segmentation_guided"])


def test_guided_by_a_word(maps, stored, close):
    close(guided(maps, stored.tensors["guide"]).view(SIDE), stored.tensors["guided"])


def test_diffused(maps, stored, close):
    ours = diffuse_cell(maps, 2080, iterations=3, threshold=1e-4)
    close(ours.view(SIDE), stored.tensors["pixel_diffused_2080_n3_thr1e-4"])


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
