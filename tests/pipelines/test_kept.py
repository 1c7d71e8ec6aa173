"""Steps, layers and heads that a run kept apart, against float64 attention of each site."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HeunDiscreteScheduler
from oracle import check, check_kept, each, watched
from toys import CASES, build, call, parts_of, toy, toy_unet

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import InputError, NoAttributionError

SD = CASES["StableDiffusion"]
AXES = ("steps", "layers", "heads")
KEPT = list(chain.from_iterable(combinations(AXES, count) for count in (1, 2, 3)))
PROMPTS = ["a red cat near a house", "two blue dogs, on the mat"]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """A UNet of two grids, whose sites have 2 heads on one and 4 on the other."""
    unet = toy_unet(
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        attention_head_dim=(2, 4),
    )
    return parts_of(SD, unet=unet)


@pytest.fixture
def pipe(parts) -> Any:
    return build(SD.ours, parts)


def keeping(pipe: Any, *axes: str, **options: Any) -> Any:
    pipe.set_attn_processor(RDAAMProcessor(keep=axes, **options))
    return pipe


def timesteps_of(pipe: Any, run: Any) -> tuple[Any, tuple[float, ...]]:
    """A run, and the timesteps that the denoiser was called with."""
    seen: list[float] = []
    handle = pipe.unet.register_forward_pre_hook(lambda m, args: seen.append(float(args[1])))
    try:
        return run(), tuple(seen)
    finally:
        handle.remove()


@pytest.mark.every(2)
@pytest.mark.parametrize("axes", KEPT, ids="+".join)
def test_every_map_and_the_means_of_all(parts, axes):
    plain = build(SD.stock, parts)
    wanted = call(SD, plain, PROMPTS).images
    pipe = keeping(build(SD.ours, parts), *axes)
    with watched(pipe) as seen:
        output = call(SD, pipe, PROMPTS)
    check(output.attributions, seen, sites=7)
    for index, attribution in enumerate(output.attributions):
        assert np.array_equal(np.asarray(output.images[index]), np.asarray(wanted[index]))
        assert attribution.kept.axes == axes
        check_kept(attribution.kept, seen, [2 + index] * 2)


def test_nothing_is_kept_unless_asked(pipe):
    attribution = call(SD, pipe).attribution
    assert attribution.kept is None and attribution.negative_attribution is None
    with pytest.raises(NoAttributionError, match=r'Record with RDAAMProcessor\(keep="steps"\)'):
        _ = attribution.steps


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_two_prompts_with_two_images_each(pipe, guidance):
    keeping(pipe, "heads", "steps")
    with watched(pipe) as seen:
        output = call(SD, pipe, PROMPTS, num_images_per_prompt=2, guidance_scale=guidance)
    first = 4 if guidance > 1 else 0
    for index, attribution in enumerate(output.attributions):
        check_kept(attribution.kept, seen, [first + index] * 2)
        assert attribution.prompt.text == PROMPTS[index // 2]


def test_a_record_of_half_precision(pipe):
    keeping(pipe, *AXES, precision="fp16")
    with watched(pipe) as seen:
        output = call(SD, pipe)
    kept = output.attribution.kept
    assert {detail.maps.dtype for detail in kept.details} == {torch.float16}
    oracle = each(seen)
    for detail in kept.details:
        wanted = torch.stack([maps[-1] for maps in oracle[detail.sites[0]]])
        torch.testing.assert_close(
            detail.maps.double(), wanted.view(detail.maps.shape), rtol=1e-3, atol=1e-7
        )


def test_a_single_plane_is_refused_only_where_it_would_stagnate(pipe):
    keeping(pipe, precision="fp16")
    with pytest.raises(InputError, match=r"would add 4 sites x 126 denoiser calls = 504 times"):
        call(SD, pipe, num_inference_steps=126)
    keeping(pipe, "steps", precision="fp16", budget=2**40)
    end = RuntimeError("enough")

    def stop(*args: Any) -> None:
        assert len(pipe.attributions_so_far[0].steps) == 1
        raise end

    with pytest.raises(RuntimeError, match="enough"):
        call(SD, pipe, num_inference_steps=126, callback_on_step_end=stop)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_timesteps_of_a_scheduler_with_two_calls_a_step(parts):
    scheduler = HeunDiscreteScheduler.from_config(parts["scheduler"].config)
    pipe = keeping(build(SD.ours, parts | {"scheduler": scheduler}), "steps")
    output, seen = timesteps_of(pipe, lambda: call(SD, pipe, num_inference_steps=3))
    assert len(seen) == 5 and output.attribution.steps.timesteps == seen
    assert len(pipe._rdaam_buffers.text["conditional"].accumulators) == 5, "no more than needed"


def test_timesteps_of_a_part_of_the_schedule():
    case = CASES["StableDiffusionImg2Img"]
    pipe = keeping(build(case.ours, parts_of(case)), "steps")
    output, seen = timesteps_of(pipe, lambda: call(case, pipe))
    assert len(seen) == 2 and output.attribution.steps.timesteps == seen
    case = CASES["StableDiffusionXL"]
    pipe = keeping(build(case.ours, parts_of(case)), "steps")
    end = {"num_inference_steps": 6, "denoising_end": 0.5, "output_type": "latent"}
    output, seen = timesteps_of(pipe, lambda: call(case, pipe, **end))
    assert len(seen) == 2 and pipe.attribution.steps.timesteps == seen
    assert len(pipe._rdaam_buffers.text["conditional"].accumulators) == 2


def test_the_next_run_changes_no_earlier_result(pipe):
    keeping(pipe, "steps", "heads")
    runs = [
        {},
        {"num_inference_steps": 3},
        {},
        {"height": 96, "width": 64},
        {"num_images_per_prompt": 2},
        {"guidance_scale": 1.0},
    ]
    results, copies = [], []
    for settings in runs:
        with watched(pipe) as seen:
            output = call(SD, pipe, **settings)
        steps = settings.get("num_inference_steps", 2)
        check_kept(output.attributions[-1].kept, seen, [-1] * steps)
        results.append(output.attributions[-1])
        copies.append([detail.maps.clone() for detail in results[-1].kept.details])
    for attribution, before in zip(results, copies, strict=True):
        for detail, maps in zip(attribution.kept.details, before, strict=True):
            assert torch.equal(detail.maps, maps)


def test_the_same_shape_uses_the_memory_again_and_another_lets_it_go(pipe):
    keeping(pipe, "steps", keep_negative=True)
    call(SD, pipe)
    before = dict(pipe._rdaam_buffers.text)
    call(SD, pipe)
    assert pipe._rdaam_buffers.text == before
    held: list[int] = []

    def look(recorder_hook: Any, *args: Any) -> None:
        held.append(0 if pipe._rdaam_buffers is None else 1)

    handle = pipe.unet.register_forward_pre_hook(look)
    call(SD, pipe, num_inference_steps=3)
    handle.remove()
    assert held == [0, 0, 0], "the old buffers are not held beside the new ones"
    keeping(pipe, "steps")
    call(SD, pipe)
    assert set(pipe._rdaam_buffers.text) == {"conditional"}


def test_templates_may_change_between_runs(pipe):
    first = call(SD, keeping(pipe, "steps")).attribution
    second = call(SD, keeping(pipe, "layers")).attribution
    third = call(SD, keeping(pipe)).attribution
    assert (first.kept.axes, second.kept.axes, third.kept) == (("steps",), ("layers",), None)
    for one, other in ((first, second), (first, third)):
        for a, b in zip(one.grids, other.grids, strict=True):
            assert a.additions == b.additions and set(a.sites) == set(b.sites)
            torch.testing.assert_close(a.maps, b.maps, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("axes", [(), ("steps",), ("layers", "heads")], ids="+".join)
def test_so_far_is_the_attribution_of_the_calls_so_far(pipe, axes):
    keeping(pipe, *axes)
    previews = []

    def look(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        previews.append(pipe.attributions_so_far)
        return tensors

    with watched(pipe) as seen:
        final = call(SD, pipe, PROMPTS, num_inference_steps=3, callback_on_step_end=look)
    for calls, preview in enumerate(previews, start=1):
        part = seen.first(calls)
        check(preview, part, sites=7)
        assert [one.image for one in preview] == [None, None]
        assert preview[0].run["denoiser_calls"] == calls
        if axes:
            check_kept(preview[1].kept, part, [3] * calls)
    assert all(
        torch.equal(a.maps, b.maps)
        for a, b in zip(previews[-1][0].grids, final.attributions[0].grids, strict=True)
    )


def test_so_far_outside_of_a_run(pipe):
    for _ in range(2):
        with pytest.raises(NoAttributionError) as error:
            _ = pipe.attributions_so_far
        assert str(error.value) == (
            "No recorded run is going on. Ask for attributions_so_far in a callback of the call; "
            "after it, they are at pipe.attributions."
        )
        call(SD, pipe)


def test_steps_of_toys_with_two_encoders():
    _, pipe = toy(CASES["StableDiffusionXL"])
    try:
        with watched(keeping(pipe, "steps", "layers", "heads")) as seen:
            output = call(CASES["StableDiffusionXL"], pipe)
        check_kept(output.attribution.kept, seen, [1, 1])
    finally:
        keeping(pipe)
