"""A denoiser that is spread over several devices: each site's maps are summed on its own.

``cpu`` and ``cpu:0`` are two devices to torch and one to the machine.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook, add_hook_to_module
from torch import nn

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import RecordingFailedWarning
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape, HeatMapAccumulator
from diffusers_rdaam.recording.site_devices import devices_of
from tests.recording.test_queries import SIZE, pipe, run  # noqa: F401  # a fixture

HERE, THERE = torch.device("cpu"), torch.device("cpu", 0)


def denoiser_of(hook: Any = None, *, of: str = "") -> tuple[nn.Module, Site]:
    attention = nn.Module()
    attention.to_q = nn.Linear(2, 2)
    block = nn.Module()
    block.attn2 = attention
    denoiser = nn.Module()
    denoiser.block = block
    if hook is not None:
        denoiser.get_submodule(of)._hf_hook = hook
    return denoiser, Site("block.attn2", attention, 0)


@pytest.mark.parametrize("of", ["", "block", "block.attn2", "block.attn2.to_q"])
@pytest.mark.parametrize("place", [THERE, "cpu:0", torch.device("meta")])
@pytest.mark.parametrize("several", [False, True])
def test_a_hook_tells(of, place, several):
    hook: Any = SimpleNamespace(execution_device=place)
    if several:
        hook = SequentialHook(AlignDevicesHook(io_same_device=True), hook)
    denoiser, site = denoiser_of(hook, of=of)
    assert devices_of(denoiser, [site], HERE) == {"block.attn2": torch.device(place)}


def test_the_inner_hook_tells():
    denoiser, site = denoiser_of(AlignDevicesHook("meta"))
    denoiser.block._hf_hook = AlignDevicesHook("cpu:0")
    assert devices_of(denoiser, [site], HERE) == {site.name: THERE}


def test_a_hook_without_a_device_and_one_without_a_number():
    for hook in (AlignDevicesHook(io_same_device=True), AlignDevicesHook("cpu")):
        denoiser, site = denoiser_of(hook)
        assert devices_of(denoiser, [site], THERE)[site.name] in (HERE, THERE)
    assert devices_of(denoiser, [site], THERE)[site.name] == THERE


def test_weights_off_the_device_do_not_tell():
    """Whoever moves them will move them to the sample's device."""
    denoiser, site = denoiser_of()
    assert devices_of(denoiser, [site], torch.device("cuda", 1))[site.name].type == "cuda"
    denoiser.to("meta")
    assert devices_of(denoiser, [site], HERE) == {site.name: HERE}


GRIDS = (("a", (2, 3)), ("b", (2, 3)), ("c", (1, 2)))


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("layers", [True, False])
def test_sums_of_all_devices(pair, layers):
    # A single plane rounds each of six additions by up to half a unit in the last place, 2**-11.
    bound = 1e-6 if pair else 6 * 2.0**-11
    torch.manual_seed(0)
    places = {"a": HERE, "b": THERE, "c": THERE}
    options = {"images": 2, "tokens": 4, "grids": GRIDS, "pair": pair, "layers": layers}
    spread = HeatMapAccumulator(AccumulatorShape.spread(places, **options))
    plain = HeatMapAccumulator(AccumulatorShape.spread(dict.fromkeys("abc", HERE), **options))
    other = HeatMapAccumulator(spread.shape)
    for step in range(3):
        for name, size in GRIDS:
            maps = torch.rand(2, 4, size[0] * size[1])
            (other if step == 1 else spread).add(name, maps)
            plain.add(name, maps)
    spread.absorb(other)
    assert spread.counts.tolist() == plain.counts.tolist() == [3, 3, 3]
    assert other.counts.tolist() == [0, 0, 0]
    assert spread.site_counts() == plain.site_counts()
    for ours, theirs in zip(spread.read(), plain.read(), strict=True):
        for one, same in zip(ours, theirs, strict=True):
            assert one.sites == same.sites and one.additions == same.additions
            torch.testing.assert_close(one.maps, same.maps, rtol=bound, atol=0.0)
    planes = (*spread._high.values(), *spread._low.values())
    assert sum(plane.nbytes for plane in planes) == spread.shape.nbytes
    cells = 6 + 6 + 2
    assert spread.shape.nbytes == 2 * 4 * cells * (4 if pair else 2)
    assert spread.nbytes == spread.shape.nbytes + 2 * 3 * 4
    assert spread.planes("a")[0] is not spread.planes("b")[0]


def test_one_device_is_as_it_was():
    shape = AccumulatorShape.spread(
        dict.fromkeys("abc", THERE), images=2, tokens=4, grids=GRIDS, pair=True
    )
    assert shape == AccumulatorShape(2, 4, GRIDS, True, THERE)


def test_stored_sums_of_all_devices_are_each_images_own():
    grids = (("a", (2, 3)), ("b", (2, 3)))
    accumulator = HeatMapAccumulator(
        AccumulatorShape.spread(
            {"a": HERE, "b": THERE}, images=2, tokens=6, grids=grids, pair=False
        )
    )
    maps = torch.rand(2, 6, 6)
    accumulator.add("a", maps)
    accumulator.add("b", maps)
    for stored, wanted in zip(accumulator.stored(), maps, strict=True):
        assert torch.equal(stored, 2 * wanted.half().float())
        assert stored.untyped_storage().nbytes() == stored.nbytes


def spread_out(pipe: Any) -> Any:  # noqa: F811
    """As ``device_map=`` does: a hook for each part, which moves what comes to its device."""
    for index, block in enumerate((*pipe.unet.down_blocks, *pipe.unet.up_blocks)):
        add_hook_to_module(block, AlignDevicesHook(THERE if index % 2 else HERE))
    return pipe


@pytest.mark.every(2)
@pytest.mark.parametrize("options", [{}, {"keep": ("steps", "layers")}, {"keep": "heads"}])
def test_maps_of_a_denoiser_on_several_devices(pipe, options):  # noqa: F811
    asked = {"attribution_vocabulary": ["a dog"], "num_images_per_prompt": 2}
    template = RDAAMProcessor(self_attention=True, keep_negative=True, **options)
    pipe.set_attn_processor(template)
    plain = run(pipe, **asked)
    spread_out(pipe)
    memory_cost = pipe.recording_bytes(**SIZE, steps=3, images=2)
    found = run(pipe, **asked)
    frames = pipe._rdaam_buffers.text["conditional"]
    assert set(frames.shape.devices) == {HERE, THERE}
    held = pipe._rdaam_buffers
    text = sum(one.shape.nbytes * len(one.accumulators) for one in held.text.values())
    assert memory_cost == text + sum(one.shape.nbytes for one in held.self_attention)
    for ours, theirs in zip(found.attributions, plain.attributions, strict=True):
        assert_alike(ours, theirs)
        assert_alike(ours.negative, theirs.negative)
        assert_alike(ours.vocabulary["a dog"], theirs.vocabulary["a dog"])
        one, same = ours.self_attention.finest, theirs.self_attention.finest
        assert one.sites == same.sites and one.additions == same.additions
        torch.testing.assert_close(one.sums.float(), same.sums.float(), rtol=2e-3, atol=1e-6)


def assert_alike(ours: Any, theirs: Any) -> None:
    for one, same in zip(ours.grids, theirs.grids, strict=True):
        assert one.sites == same.sites and one.additions == same.additions
        torch.testing.assert_close(one.maps, same.maps, rtol=1e-5, atol=1e-8)


def test_queries_of_several_devices_are_refused_and_the_image_is_made(pipe):  # noqa: F811
    wanted = run(pipe).images[0]
    pipe.set_attn_processor(RDAAMProcessor(keep="queries"))
    spread_out(pipe)
    with pytest.warns(RecordingFailedWarning, match=r"is spread over cpu(:0)?, cpu"):
        output = run(pipe)
    assert output.images[0].tobytes() == wanted.tobytes()


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_maps_of_two_cuda_devices(pipe):  # noqa: F811
    pipe.to("cuda:0")
    plain = run(pipe).attribution
    for index, block in enumerate((*pipe.unet.down_blocks, *pipe.unet.up_blocks)):
        add_hook_to_module(block, AlignDevicesHook(index % 2, io_same_device=True))
    found = run(pipe).attribution
    assert len(set(pipe._rdaam_buffers.text["conditional"].shape.devices)) == 2
    for one, same in zip(found.grids, plain.grids, strict=True):
        torch.testing.assert_close(one.maps, same.maps, rtol=1e-3, atol=1e-6)
