"""Arming and disarming: exceptions, interrupts, failures, buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer

from diffusers_rdaam.errors import (
    NoAttributionError,
    NotRecordedWarning,
    PartialRunWarning,
    RecordingError,
    SiteMisfitWarning,
)


def same(one: Any, other: Any) -> bool:
    maps = zip(one.attribution.grids, other.attribution.grids, strict=True)
    pictures = zip(one.images, other.images, strict=True)
    return all(torch.equal(a.maps, b.maps) for a, b in maps) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pictures
    )


def test_nothing_is_left_after_a_run(ours, generate, left):
    armed = []
    site = ours.unet.mid_block.attentions[0].transformer_blocks[0].attn2

    def look(*unused):
        armed.append(getattr(site.processor, "target", None) is not None)

    def between(pipe, step, timestep, tensors):
        look()
        return tensors

    handle = site.register_forward_hook(look)
    generate(ours, callback_on_step_end=between)
    handle.remove()
    assert armed == [True, False] * 2, "in each denoiser call, and not between them"
    assert left(ours) == []


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "denoiser"])
def test_an_exception_goes_through_and_the_next_run_is_normal(ours, generate, left, error, where):
    first = generate(ours)

    def fail(*args):
        raise error("stop")

    handle = None
    kwargs = {}
    if where == "callback":
        kwargs["callback_on_step_end"] = fail
    else:
        handle = ours.unet.up_blocks[1].register_forward_hook(fail)
    with pytest.raises(error, match="stop"):
        generate(ours, "two dogs", **kwargs)
    if handle is not None:
        handle.remove()
    assert left(ours) == []
    with pytest.raises(NoAttributionError) as caught:
        _ = ours.attribution
    assert str(caught.value) == (
        "The last run ended with an exception, so it has no attribution. Generate again."
    )
    assert same(generate(ours), first)


def test_bad_arguments_are_refused_as_by_stock(ours, stock, generate, left):
    for pipe in (ours, stock):
        with pytest.raises(ValueError, match="have to be divisible by 8"):
            generate(pipe, height=65)
    assert left(ours) == []


def test_interrupted_by_the_pipelines_own_flag(ours, generate, stock):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = step >= 1
        return tensors

    settings = {"num_inference_steps": 6, "callback_on_step_end": stop}
    output = generate(ours, **settings)
    assert output.attribution.run["denoiser_calls"] == 2 and output.attribution.run["interrupted"]
    assert {grid.additions for grid in output.attribution.grids} == {2 * 3, 2 * 1}
    expected = generate(stock, **settings)
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(expected.images[0]))


def test_calls_that_something_skips_are_counted(ours, stock, generate):
    """A cache of somebody's own, which gives the last prediction again."""
    for pipe in (ours, stock):
        pipe.register_modules(unet=EveryOther(pipe.unet))
    with pytest.warns(PartialRunWarning, match="called 2 times in a run of 4 steps"):
        output = generate(ours, num_inference_steps=4)
    assert {grid.additions for grid in output.attribution.grids} == {2 * 3, 2 * 1}
    expected = generate(stock, num_inference_steps=4)
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(expected.images[0]))


class EveryOther:
    """Calls a denoiser in every other step."""

    def __init__(self, unet: Any) -> None:
        self.unet, self.calls, self.last = unet, 0, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls % 2:
            self.last = self.unet(*args, **kwargs)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unet, name)


def check_image_without_attribution(ours: Any, caught: Any, output: Any, why: str) -> None:
    text = f"The image was made, but not its attribution: {why}"
    assert [str(w.message) for w in caught] == [text]
    assert output.images[0].size == (96, 64) and output.attributions is None
    for attempt in (
        lambda: output.attribution,
        lambda: ours.attribution,
        lambda: ours.attributions,
    ):
        with pytest.raises(NoAttributionError) as error:
            attempt()
        assert str(error.value) == text


def test_the_image_outlives_a_failing_tokenizer(ours, generate, left):
    first = generate(ours)
    tokenizer = ours.tokenizer

    def exchange(pipe, step, timestep, tensors):
        pipe.tokenizer = ByT5Tokenizer()
        return tensors

    with pytest.warns(NotRecordedWarning) as caught:
        output = generate(ours, callback_on_step_end=exchange)
    why = (
        "ByT5Tokenizer gives no character offsets, so words cannot be found. Load the pipeline's "
        "tokenizer with transformers 5 or as its Fast class."
    )
    check_image_without_attribution(ours, caught, output, why)
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(first.images[0]))
    ours.tokenizer = tokenizer
    assert left(ours) == []
    assert same(generate(ours), first)


@pytest.mark.parametrize(
    ("prompt", "texts", "why"),
    [
        ("a cat", ["a", "b"], "attribution_prompt has 2 texts for 1 prompts; give one for each."),
        (["a", "b"], "c", "attribution_prompt has 1 texts for 2 prompts; give one for each."),
    ],
)
def test_the_image_outlives_a_wrong_attribution_prompt(ours, generate, prompt, texts, why):
    with pytest.warns(NotRecordedWarning) as caught:
        output = ours(prompt, height=64, width=96, num_inference_steps=1, attribution_prompt=texts)
    assert caught[0].filename == __file__
    check_image_without_attribution(ours, caught, output, why)


def test_the_image_outlives_an_input_that_changes_during_the_run(ours, generate, stock):
    def shorten(pipe, step, timestep, tensors):
        return {"prompt_embeds": tensors["prompt_embeds"][:, :40]}

    settings = {
        "callback_on_step_end": shorten,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
        "num_inference_steps": 3,
    }
    with pytest.warns(NotRecordedWarning) as caught:
        output = generate(ours, **settings)
    why = (
        "The denoiser's input changed during the run: (images, columns, latent grid) were "
        "(1, 77, (8, 12)) at the first call and (1, 40, (8, 12)) at call 2."
    )
    check_image_without_attribution(ours, caught, output, why)
    expected = generate(stock, **settings)
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(expected.images[0]))


def test_a_layout_that_is_not_known_is_refused_before_any_step(ours, generate, left):
    def three_rows(module, args, kwargs):
        return (torch.cat([args[0], args[0][:1]]), *args[1:]), kwargs

    handle = ours.unet.register_forward_pre_hook(three_rows, with_kwargs=True)
    with pytest.raises(RecordingError) as error:
        generate(ours)
    handle.remove()
    assert str(error.value) == (
        "The denoiser was called with 3 rows, where [unconditional, conditional] were expected "
        "with the guidance of this call. This layout is not known."
    )
    assert left(ours) == []


def test_samplers_that_are_not_known_give_the_image_and_a_warning(make, generate):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        downsample_padding=0,
    )
    pipe = make(unet=unet)
    assert generate(pipe).attribution.words
    text = "attn2 attends from 60 image positions, where 77 "
    with pytest.warns(SiteMisfitWarning, match=text):
        assert generate(pipe, height=104, width=168).images[0].size == (168, 104)
    assert generate(pipe).attribution.words


def pointers(pipe: Any) -> list[int]:
    (accumulator,) = pipe._rdaam_buffers.text["conditional"].accumulators
    planes = [plane for site, _ in accumulator.shape.grids for plane in accumulator.planes(site)]
    return [plane.data_ptr() for plane in planes if plane is not None]


def test_buffers_are_used_again_and_the_earlier_result_stays(ours, generate):
    first = generate(ours)
    kept = [grid.maps.clone() for grid in first.attribution.grids]
    before = pointers(ours)
    generate(ours, "two dogs", num_inference_steps=3)
    assert pointers(ours) == before
    assert all(
        torch.equal(grid.maps, maps)
        for grid, maps in zip(first.attribution.grids, kept, strict=True)
    )
    assert same(generate(ours), first)
    generate(ours, num_images_per_prompt=2)
    assert ours._rdaam_buffers.text["conditional"].shape.images == 2
    assert same(generate(ours), first)


def test_memory_does_not_grow_with_the_steps(ours, generate):
    sizes = set()
    for steps in (1, 2, 7):
        output = generate(ours, num_inference_steps=steps)
        sizes.add((ours._rdaam_buffers.text["conditional"].nbytes, output.attribution.nbytes))
    cells = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert sizes == {(77 * cells * 4 + 10 * 4, 77 * cells * 4)}


def test_a_single_plane_is_refused_before_any_step(ours, generate):
    from diffusers_rdaam import RDAAMProcessor
    from diffusers_rdaam.errors import InputError

    ours.set_attn_processor(RDAAMProcessor(precision="fp16"))
    assert generate(ours).attribution.words
    steps = []
    with pytest.raises(InputError, match="3 sites x 167 denoiser calls = 501 times"):
        generate(
            ours,
            num_inference_steps=167,
            callback_on_step_end=lambda pipe, step, t, tensors: steps.append(step) or tensors,
        )
    assert steps == []
