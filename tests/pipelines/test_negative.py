"""The negative prompt's attribution: its words, its rows of each call, its steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle import check_kept, each, watched
from toys import CASES, build, call, parts_of, toy

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import InputError, NoAttributionError

SD, XL = CASES["StableDiffusion"], CASES["StableDiffusionXL"]
PROMPTS = ["a red cat near a house", "two blue dogs, on the mat"]
NO_NEGATIVE = (
    "There is no attribution of a negative prompt. Record with "
    "RDAAMProcessor(keep_negative=True), under guidance; a selection by layer, head or step has it "
    "where those were kept of it too."
)


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return parts_of(SD)


@pytest.fixture
def pipe(parts) -> Any:
    pipe = build(SD.ours, parts)
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=True))
    return pipe


def words(attribution: Any) -> list[str]:
    return [word.text for word in attribution.words]


def check_rows(attribution: Any, seen: Any, rows: list[int | None]) -> None:
    """Its one grid is the mean over the sites and the calls that have a row of it."""
    [grid] = attribution.grids
    parts = [
        maps[row]
        for calls in each(seen).values()
        for maps, row in zip(calls, rows, strict=True)
        if row is not None
    ]
    assert grid.additions == len(parts)
    wanted = torch.stack(parts).mean(dim=(0, 1))
    torch.testing.assert_close(grid.maps.flatten(1).double(), wanted, rtol=1e-4, atol=1e-7)


def test_it_has_its_own_words_and_the_unconditional_rows(pipe):
    with watched(pipe) as seen:
        output = call(SD, pipe, negative_prompt="two ugly dogs")
    attribution = output.attribution
    check_rows(attribution, seen, [1, 1])
    check_rows(attribution.negative, seen, [0, 0])
    assert words(attribution) == ["a", "red", "cat", "near", "a", "house"]
    assert words(attribution.negative) == ["two", "ugly", "dogs"]
    assert attribution.negative.image is output.images[0]
    assert attribution.region((0, 0, 40, 40)).negative["dogs"] > 0


def test_one_for_each_prompt(pipe):
    negative = ["a house", "blue"]
    with watched(pipe) as seen:
        output = call(SD, pipe, PROMPTS, negative_prompt=negative, num_images_per_prompt=2)
    for index, attribution in enumerate(output.attributions):
        check_rows(attribution, seen, [4 + index] * 2)
        check_rows(attribution.negative, seen, [index] * 2)
        assert attribution.negative.prompt.text == negative[index // 2]


def test_one_that_is_not_given_is_empty(pipe):
    attribution = call(SD, pipe, PROMPTS).attributions[1]
    assert attribution.negative.prompt.text == "" and attribution.negative.words == ()


def test_embeddings_have_no_words(pipe):
    embeds, negative = pipe.encode_prompt(PROMPTS[0], "cpu", 1, True, "two dogs")
    with watched(pipe) as seen:
        output = call(SD, pipe, None, prompt_embeds=embeds, negative_prompt_embeds=negative)
    check_rows(output.attribution.negative, seen, [0, 0])
    assert output.attribution.negative.words == ()


def test_without_guidance_there_is_none(pipe):
    attribution = call(SD, pipe, guidance_scale=1.0).attribution
    text = "was asked to keep the negative prompt, but its denoiser never read it: without guidance"
    with pytest.raises(NoAttributionError, match=text):
        _ = attribution.negative


@pytest.mark.usefixtures("types_unchecked")
def test_it_is_not_kept_unless_asked(parts):
    with pytest.raises(NoAttributionError) as error:
        _ = call(SD, build(SD.ours, parts)).attribution.negative
    assert str(error.value) == NO_NEGATIVE
    with pytest.raises(InputError, match=r"^keep_negative= is True or False; got 'no'\.$"):
        RDAAMProcessor(keep_negative="no")


@pytest.mark.parametrize("axes", [("steps",), ("steps", "heads", "layers")], ids="+".join)
def test_its_maps_are_kept_apart_too(pipe, axes):
    pipe.set_attn_processor(RDAAMProcessor(keep=axes, keep_negative=True))
    with watched(pipe) as seen:
        output = call(SD, pipe, PROMPTS, negative_prompt=["two ugly dogs"] * 2)
    for index, attribution in enumerate(output.attributions):
        check_kept(attribution.kept, seen, [2 + index] * 2)
        check_kept(attribution.negative.kept, seen, [index] * 2)
        assert attribution.negative.steps.timesteps == attribution.steps.timesteps
        assert words(attribution.steps[1].negative) == ["two", "ugly", "dogs"]


def switch(step_of_change: int, scale: float) -> Any:
    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == step_of_change:
            pipe._guidance_scale = scale
            embeds = tensors["prompt_embeds"]
            tensors["prompt_embeds"] = embeds.chunk(2)[-1] if scale == 0 else embeds.repeat(2, 1, 1)
        return tensors

    return change


@pytest.mark.parametrize(
    ("before", "after", "rows", "own"),
    [(5.0, 0.0, [0, 0, None], [1, 1, 0]), (0.0, 5.0, [None, None, 0], [0, 0, 1])],
    ids=["off", "on"],
)
def test_steps_stay_those_of_the_prompt_where_guidance_is_switched(pipe, before, after, rows, own):
    pipe.set_attn_processor(RDAAMProcessor(keep="steps", keep_negative=True))
    with watched(pipe) as seen:
        attribution = call(
            SD,
            pipe,
            num_inference_steps=3,
            guidance_scale=before,
            negative_prompt="two dogs",
            callback_on_step_end=switch(1, after),
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        ).attribution
    check_kept(attribution.kept, seen, own)
    check_kept(attribution.negative.kept, seen, rows)
    assert attribution.negative.steps.timesteps == attribution.steps.timesteps
    for step, row in enumerate(rows):
        if row is None:
            with pytest.raises(NoAttributionError):
                _ = attribution.steps[step].negative
        else:
            check_rows(
                attribution.steps[step].negative,
                seen,
                [row if index == step else None for index in range(3)],
            )


def test_the_third_part_of_an_instruction():
    case = CASES["StableDiffusionInstructPix2Pix"]
    pipe = build(case.ours, parts_of(case))
    pipe.set_attn_processor(RDAAMProcessor(keep="heads", keep_negative=True))
    with watched(pipe) as seen:
        attribution = call(case, pipe, negative_prompt="two dogs").attribution
    check_kept(attribution.kept, seen, [0, 0])
    check_kept(attribution.negative.kept, seen, [2, 2])
    assert words(attribution.negative) == ["two", "dogs"]


@pytest.mark.parametrize("zeros", [True, False])
def test_two_encoders_with_and_without_an_embedding_of_zeros(zeros):
    parts = parts_of(XL, force_zeros_for_empty_prompt=zeros)
    pipe = build(XL.ours, parts)
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=True))
    with watched(pipe) as seen:
        attribution = call(XL, pipe).attribution
    check_rows(attribution.negative, seen, [0, 0])
    flat = attribution.negative.grids[0].maps.std(dim=0).max() < 1e-6
    assert attribution.negative.words == () and bool(flat) is zeros


def test_the_shared_toy_is_untouched():
    _, pipe = toy(SD)
    assert call(SD, pipe).attribution.negative_attribution is None
