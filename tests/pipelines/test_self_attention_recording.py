"""The image's attention to itself, against float64 attention of each site; and its buffers."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0, SlicedAttnProcessor
from oracle import check, expected, sees_itself, watched
from toys import ALL_CASES, CASES, build, call, parts_of, toy_unet

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.errors import InputError, NoAttributionError

SD = CASES["StableDiffusion"]
PROMPTS = ["a red cat near a house", "two blue dogs, on the mat"]
UPPER, LOWER = (8, 12), (4, 6)


def sharp(unet: Any) -> Any:
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("attn1.to_q.weight", "attn1.to_k.weight")):
                weight.mul_(4)
    return unet


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """A UNet of two grids, whose sites have 2 heads on one and 4 on the other."""
    unet = toy_unet(
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=(2, 4),
    )
    return parts_of(SD, unet=sharp(unet))


@pytest.fixture
def pipe(parts) -> Any:
    return build(SD.ours, parts)


def recording(pipe: Any, grids: Any = True, **options: Any) -> Any:
    pipe.set_attn_processor(RDAAMProcessor(self_attention=grids, **options))
    return pipe


def check_own(attributions: Any, seen: Any, sizes: list[Any], **layout: Any) -> None:
    """Compare every cell of every image, of grids that were kept in a single plane."""
    oracle = expected(seen, len(attributions), **layout)
    for image, attribution in enumerate(attributions):
        assert [grid.size for grid in attribution.self_grids] == sizes
        for grid in attribution.self_grids:
            maps, additions = oracle[grid.positions]
            assert grid.additions == additions and grid.sums.dtype == torch.float16
            # Every addition rounds the sum so far by at most 2**-11 of it, or by 2**-25.
            torch.testing.assert_close(
                grid.sums.double() / additions,
                maps[image],
                rtol=2**-11 * (additions + 1) / 2,
                atol=2**-25,
            )


def test_largest_grid_and_chosen_ones(parts):
    wanted = call(SD, build(SD.stock, parts), PROMPTS).images
    pipe = build(SD.ours, parts)
    for grids, sizes in (("all", [UPPER]), (LOWER, [LOWER]), ([LOWER, UPPER], [LOWER, UPPER])):
        recording(pipe, grids)
        with watched(pipe, sees_itself) as self_attention, watched(pipe) as text:
            output = call(SD, pipe, PROMPTS)
        check_own(output.attributions, self_attention, sizes)
        assert all(maps.std() > 0.3 / n for n, (maps, _) in expected(self_attention, 2).items()), (
            "not flat"
        )
        check(output.attributions, text, sites=7)
        for index in range(2):
            assert np.array_equal(np.asarray(output.images[index]), np.asarray(wanted[index]))
    sites = {grid.size: grid.sites for grid in output.attributions[0].self_grids}
    assert len(sites[UPPER]) == 3 and len(sites[LOWER]) == 4
    assert all(name.endswith("attn1") for names in sites.values() for name in names)


def of_sites(seen: Any, names: Any) -> Any:
    """What was seen of some sites."""
    found = seen.__class__({name: pairs for name, pairs in seen.items() if name in names})
    found.masks = seen.masks
    return found


def test_layers_and_choices(pipe):
    """The last layer of the decoder; each layer; names, prefixes and patterns, and with grids."""
    down, up = "down_blocks.0.", "up_blocks.1."
    cases = [
        (True, [[up + "attentions.1."]]),
        ("last", [[up + "attentions.1."]]),
        ("each", [[down], [up + "attentions.0."], [up + "attentions.1."]]),
        ("up_blocks.1", [[up]]),
        (["up_blocks.*", LOWER], [["up_blocks.0."]]),
        (
            ["down_blocks", "up_blocks.1.attentions.0"],
            [[down, up + "attentions.0."], ["down_blocks.1."]],
        ),
    ]
    for choice, wanted in cases:
        recording(pipe, choice)
        with watched(pipe, sees_itself) as seen:
            attribution = call(SD, pipe).attribution
        names = [
            [site for site in seen if any(site.startswith(start) for start in starts)]
            for starts in wanted
        ]
        assert [list(grid.sites) for grid in attribution.self_grids] == names and all(names)
        for grid in attribution.self_grids:
            maps, additions = expected(of_sites(seen, grid.sites), 1)[grid.positions]
            assert grid.additions == additions
            # Every addition rounds the sum so far, which is at most the whole, by 2**-11 of it.
            found = grid.sums.double() / additions
            torch.testing.assert_close(found, maps[0], rtol=2**-11 * additions, atol=2**-25)


def test_names_that_are_not_there(pipe):
    recording(pipe, "up_block.1")
    with pytest.raises(
        InputError, match=r"'up_block\.1' is not one of the 7 layers\. Near it: up_blo"
    ):
        call(SD, pipe)
    recording(pipe, ["mid_block", UPPER])
    with pytest.raises(
        InputError, match="No self-attention that can be recorded has a grid of 8x12"
    ):
        call(SD, pipe)
    with pytest.raises(InputError, match="'each' is a choice by itself"):
        RDAAMProcessor(self_attention=["each", 16])


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_two_prompts_with_two_images_each(pipe, guidance):
    recording(pipe, [UPPER, LOWER])
    with watched(pipe, sees_itself) as self_attention:
        output = call(SD, pipe, PROMPTS, num_images_per_prompt=2, guidance_scale=guidance)
    check_own(output.attributions, self_attention, [UPPER, LOWER])
    own_bytes = [attribution.self_attention.nbytes for attribution in output.attributions]
    assert own_bytes == [2 * (96**2 + 24**2)] * 4
    storages = {grid.sums.untyped_storage().nbytes() for grid in output.attributions[3].self_grids}
    assert storages == {2 * 96**2, 2 * 24**2}, "none holds the whole batch"


OTHERS = ["StableDiffusionXL", "StableDiffusionInstructPix2Pix", "StableDiffusionInpaint"]
OTHERS += ["StableDiffusionXLControlNet", "LatentConsistencyModel", "AnimateDiff"]
OTHERS += ["StableDiffusionLatentUpscale", "StableDiffusionControlNetXS", "StableDiffusionGLIGEN"]


def pictures(output: Any) -> Any:
    return output.frames[0] if "frames" in output else output.images


@pytest.mark.every(3)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_other_pipelines(name):
    case = ALL_CASES[name]
    stock = build(case.stock, parts_of(case))
    template = RDAAMProcessor(self_attention=True)
    with (
        record_attention(stock, template) as recorded,
        watched(stock, sees_itself) as self_attention,
    ):
        images = pictures(call(case, stock))
    attributions = recorded.attributions
    assert len(attributions) == case.frames
    size = attributions[0].self_grids[0].size
    rows = "c" if case.always else "cuu" if case.first else case.guided
    layout = {"rows": rows, "stride": case.stride}
    found = {n: p for n, p in self_attention.items() if n in attributions[0].self_grids[0].sites}
    kept = self_attention.__class__(found)
    kept.masks = self_attention.masks
    check_own(attributions, kept, [size], **layout)
    again = pictures(call(case, build(case.stock, parts_of(case))))
    for one, other in zip(images, again, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(("name", "taken"), [("StableDiffusionPAG", 1), ("StableDiffusionSAG", 1)])
def test_modules_that_the_pipeline_takes_for_itself_are_left_out(name, taken):
    case = ALL_CASES[name]
    pipe = build(case.stock, parts_of(case))
    before = {key: type(value) for key, value in pipe.unet.attn_processors.items()}
    template = RDAAMProcessor(self_attention="all")
    with record_attention(pipe, template) as recorded, watched(pipe, sees_itself) as self_attention:
        images = call(case, pipe).images
    (grid,) = recorded.attribution.self_grids
    assert len(grid.sites) == len(self_attention) - taken
    assert not any("mid_block" in site for site in grid.sites)
    kept = self_attention.__class__(
        {name: pairs for name, pairs in self_attention.items() if name in grid.sites}
    )
    kept.masks = self_attention.masks
    layout = {"rows": case.guided, "stride": case.stride}
    check_own([recorded.attribution], kept, [grid.size], **layout)
    again = call(case, build(case.stock, parts_of(case))).images
    assert np.array_equal(np.asarray(images[0]), np.asarray(again[0]))
    assert {key: type(value) for key, value in pipe.unet.attn_processors.items()} == before


def test_none_left_is_told_before_the_first_step():
    case = ALL_CASES["StableDiffusionPAG"]
    pipe = build(case.ours, parts_of(case) | {"pag_applied_layers": ["down", "mid", "up"]})
    pipe.set_attn_processor(RDAAMProcessor(self_attention=True))
    with pytest.raises(InputError) as error:
        call(case, pipe)
    assert str(error.value) == (
        "This denoiser's self-attention cannot be recorded: the first of 4 modules, "
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1, has a "
        "PAGCFGIdentitySelfAttnProcessor2_0. Leave self_attention= out."
    )
    unet = toy_unet(only_cross_attention=True, mid_block_type=None)
    recorder = record_attention(unet, RDAAMProcessor(self_attention=True), rows="conditional")
    wanted = r"cannot be recorded: it has none\. Leave self_attention= out\."
    with recorder, pytest.raises(InputError, match=wanted):
        unet(torch.randn(1, 4, 8, 12), 1, torch.randn(1, 7, 32))


def test_sliced_and_fused_attention(parts):
    plain = call(SD, recording(build(SD.ours, parts), UPPER)).attribution.self_grids[0]
    sliced = recording(build(SD.ours, parts), UPPER)
    sliced.enable_attention_slicing(1)
    fused = recording(build(SD.ours, parts), UPPER)
    fused.fuse_qkv_projections()
    for pipe in (sliced, fused):
        attribution = call(SD, pipe).attribution
        self_attention = attribution.self_grids[0]
        assert self_attention.additions == plain.additions
        torch.testing.assert_close(self_attention.sums, plain.sums, rtol=5e-3, atol=1e-4)
        processors = pipe.unet.attn_processors
        self_attention_sites = [key for key in processors if "attn1" in key]
        assert all(isinstance(processors[key], RecordingProcessor) for key in self_attention_sites)
    assert isinstance(sliced.unet.attn_processors[self_attention_sites[0]], SlicedAttnProcessor)
    before = build(SD.stock, parts)
    before.enable_attention_slicing(1)
    wanted = call(SD, before).images[0]
    assert np.array_equal(np.asarray(wanted), np.asarray(call(SD, sliced).images[0]))


def test_the_template_puts_children_on_and_takes_them_off(pipe):
    self_attention = [name for name in pipe.unet.attn_processors if "attn1" in name]
    before = {name: pipe.unet.attn_processors[name] for name in self_attention}
    recording(pipe)
    assert all(isinstance(pipe.attn_processors[name], RDAAMProcessor) for name in self_attention)
    call(SD, pipe)
    pipe.set_attn_processor(dict(pipe.attn_processors))
    assert call(SD, pipe).attribution.self_grids
    pipe.set_attn_processor(RDAAMProcessor())
    assert {name: pipe.attn_processors[name] for name in self_attention} == before
    assert call(SD, pipe).attribution.self_grids == ()
    recording(pipe)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.warns(match="had lost their RDAAMProcessor"):
        assert call(SD, pipe).attribution.self_grids


def test_without_it_the_error_says_how(pipe):
    attribution = call(SD, pipe).attribution
    assert attribution.self_grids == ()
    with pytest.raises(NoAttributionError) as error:
        _ = attribution.self_attention
    assert str(error.value) == (
        "This run did not keep its self-attention. Record with RDAAMProcessor(self_attention=True)."
    )


def own_planes(pipe: Any) -> list[Any]:
    buffers = pipe._rdaam_buffers.self_attention
    return [plane for b in buffers for plane in (*b._high.values(), *b._low.values())]


def test_what_is_told_is_what_is_allocated(parts, capsys):
    pipe = recording(build(SD.ours, parts), [UPPER, LOWER])
    pipe.set_progress_bar_config(disable=False)
    told = pipe.recording_bytes(height=64, width=96, steps=2, images=2)
    without = build(SD.ours, parts).recording_bytes(height=64, width=96, steps=2, images=2)
    call(SD, pipe, PROMPTS)
    planes = own_planes(pipe)
    assert sum(plane.nbytes for plane in planes) == told - without == 2 * 2 * (96**2 + 24**2)
    assert (
        "Keeping 39.2 kB of self-attention (2 images, grid 8x12 with 2 bytes a cell, 4x6 with 2 "
        "bytes a cell)." in capsys.readouterr().err
    )


def test_a_pair_where_a_single_plane_would_stagnate(pipe):
    recording(pipe, [UPPER, LOWER])
    # 3 sites on the larger grid, 4 on the other: 375 and 500 additions, then 378 and 504.
    assert pipe.recording_bytes(height=64, width=96, steps=125) == 4 * 77 * 120 + 2 * (
        96**2 + 24**2
    )
    assert pipe.recording_bytes(height=64, width=96, steps=126) == 4 * 77 * 120 + (
        2 * 96**2 + 4 * 24**2
    )


def test_a_pair_is_as_exact_as_single_precision(parts):
    unet = copy.deepcopy(parts["unet"])
    template = RDAAMProcessor(self_attention=[UPPER, LOWER])
    rows = ("unconditional", "conditional")
    recorder = record_attention(unet, template, rows=rows)
    watching = watched(SimpleNamespace(unet=unet), sees_itself)
    with recorder as recorded, watching as self_attention, torch.no_grad():
        text = torch.randn(2, 7, 32, generator=torch.manual_seed(0))
        for step in (9, 5, 1):
            torch.manual_seed(step)
            unet(torch.randn(2, 4, 8, 12), step, text)
    attribution = recorded.attribution
    oracle = expected(self_attention, 1)
    for grid in attribution.self_grids:
        maps, additions = oracle[grid.positions]
        assert grid.sums.dtype == torch.float32 and grid.additions == additions
        torch.testing.assert_close(grid.sums.double() / additions, maps[0], rtol=1e-5, atol=1e-8)
    processors = unet.attn_processors.values()
    assert {type(processor) for processor in processors} == {AttnProcessor2_0}


def test_budget(pipe):
    text = 4 * 77 * 120
    small = text + 2 * 24**2
    recording(pipe, budget=small)
    assert [grid.size for grid in call(SD, pipe).attribution.self_grids] == [LOWER]
    recording(pipe, budget=small - 1)
    with pytest.raises(InputError) as error:
        call(SD, pipe)
    assert str(error.value) == (
        "No grid's self-attention fits into the budget of 38.1 kB, of which the text takes 37 kB: "
        "8x12 18.4 kB, 4x6 1.15 kB. Allow more with RDAAMProcessor(budget=…)."
    )
    recording(pipe, UPPER, budget=small)
    with pytest.raises(InputError) as error:
        call(SD, pipe)
    assert str(error.value) == (
        "Self-attention of these grids takes 18.4 kB, with the text 55.4 kB: over the budget of "
        "38.1 kB. Memory: 8x12 18.4 kB, 4x6 1.15 kB. Choose fewer or smaller grids, or allow it "
        "with RDAAMProcessor(budget=55392, …)."
    )
    recording(pipe, 16)
    with pytest.raises(InputError) as error:
        call(SD, pipe)
    assert str(error.value) == (
        "No self-attention that can be recorded has a grid of 16x16 (height x width) at this image "
        "size. Grids and their memory: 8x12 18.4 kB, 4x6 1.15 kB."
    )


def test_buffers_are_used_again_and_earlier_results_stay(pipe):
    recording(pipe, [UPPER, LOWER])
    first = call(SD, pipe).attribution
    copies = [grid.sums.clone() for grid in first.self_grids]
    pointers = [plane.data_ptr() for plane in own_planes(pipe)]
    second = call(SD, pipe, seed=8).attribution
    assert [plane.data_ptr() for plane in own_planes(pipe)] == pointers
    assert not torch.equal(second.self_grids[0].sums, copies[0])
    third = call(SD, pipe).attribution
    for grid, other, saved in zip(first.self_grids, third.self_grids, copies, strict=True):
        assert torch.equal(grid.sums, saved) and torch.equal(other.sums, saved)
    recording(pipe, [(12, 8)])
    call(SD, pipe, height=96, width=64)
    assert [buffer.shape.grids[0][1] for buffer in pipe._rdaam_buffers.self_attention] == [(12, 8)]


def test_so_far_has_it_too(pipe):
    recording(pipe, UPPER)
    previews = []

    def look(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        previews.append(pipe.attributions_so_far[0].self_grids[0])
        return tensors

    final = call(SD, pipe, callback_on_step_end=look).attribution.self_grids[0]
    assert [grid.additions for grid in previews] == [3, 6]
    assert torch.equal(previews[1].sums, final.sums)
