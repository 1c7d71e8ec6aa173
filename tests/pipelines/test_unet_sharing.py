"""Stock pipelines recorded, pipelines saved, ControlNets left alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from oracle import check, watched
from toys import CASES, SITES, build, call, parts_of, toy, toy_controlnet

from diffusers_rdaam import RDAAMProcessor, record_attention

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
NETS = [pytest.param(case, id=name) for name, case in CASES.items() if "ControlNet" in name]


def pixels(output: Any) -> np.ndarray:
    return np.asarray(output.images[0])


@pytest.mark.every(2)
@pytest.mark.parametrize("case", ALL)
def test_record_attention(case):
    stock, ours = toy(case)
    before = {name: id(value) for name, value in stock.unet.attn_processors.items()}
    with watched(stock) as seen, record_attention(stock) as recording:
        output = call(case, stock)
    assert type(stock) is case.stock
    assert {name: id(value) for name, value in stock.unet.attn_processors.items()} == before
    assert not stock.unet._forward_pre_hooks
    assert not [name for name in stock.__dict__ if name.startswith("_rdaam")]
    check(recording.attributions, seen, SITES, case.first)
    wanted = call(case, ours)
    assert np.array_equal(pixels(output), pixels(wanted))
    for one, other in zip(recording.attribution.grids, wanted.attribution.grids, strict=True):
        assert torch.equal(one.maps, other.maps)
    assert recording.attribution.run["pipeline"] == case.stock.__name__


@pytest.mark.every(4)
@pytest.mark.parametrize("case", ALL)
def test_plain_diffusers_loads_what_was_saved(case, tmp_path):
    stock, ours = toy(case)
    ours.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == case.stock.__name__
    expected = pixels(call(case, stock)).astype(float)
    for loader, cls in ((DiffusionPipeline, case.stock), (case.ours, case.ours)):
        none = {} if case.xl else {"safety_checker": None}
        pipe = loader.from_pretrained(tmp_path, **none)
        pipe.set_progress_bar_config(disable=True)
        assert type(pipe) is cls
        weights = zip(pipe.unet.parameters(), stock.unet.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in weights)
        # Weights from a file lie elsewhere in memory, and alignment decides about kernels.
        np.testing.assert_allclose(pixels(call(case, pipe)), expected, atol=1)


@pytest.mark.every(3)
@pytest.mark.parametrize("case", NETS)
def test_a_controlnet_is_not_recorded(case):
    parts = parts_of(case)
    ours = build(case.ours, parts)
    before = dict(parts["controlnet"].attn_processors)
    assert {type(processor) for processor in before.values()} == {AttnProcessor2_0}
    assert any(name.endswith("attn2.processor") for name in before)
    ours.set_attn_processor(RDAAMProcessor())
    attribution = call(case, ours).attribution
    assert parts["controlnet"].attn_processors == before
    assert sum(grid.additions for grid in attribution.grids) == 2 * SITES
    recorded = {site for grid in attribution.grids for site in grid.sites}
    assert recorded == {
        name.removesuffix(".processor")
        for name in ours.attn_processors
        if name.endswith("attn2.processor")
    }


@pytest.mark.values
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("case", NETS)
def test_several_controlnets(case, guidance):
    parts = parts_of(case)
    nets = [toy_controlnet(parts["unet"], seed) for seed in (1, 2)]
    stock, ours = (build(cls, parts | {"controlnet": nets}) for cls in (case.stock, case.ours))
    image = "control_image" if "control_image" in case.call else "image"
    settings = {image: [case.call[image]] * 2, "controlnet_conditioning_scale": [0.5, 0.8]}
    settings |= {"guidance_scale": guidance}
    with watched(ours) as seen:
        output = call(case, ours, **settings)
    check(output.attributions, seen, SITES)
    plain = pixels(call(case, stock, **settings))
    assert np.array_equal(pixels(output), plain)
    assert not np.array_equal(plain, pixels(call(case, toy(case)[0], guidance_scale=guidance)))


@pytest.mark.every(3)
@pytest.mark.parametrize("case", NETS)
def test_guess_mode(case):
    """The ControlNet then sees the conditional rows only, the UNet all."""
    stock, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, guess_mode=True)
    assert {len(query) for pairs in seen.values() for query, _ in pairs} == {2}
    check(output.attributions, seen, SITES)
    assert np.array_equal(pixels(output), pixels(call(case, stock, guess_mode=True)))
