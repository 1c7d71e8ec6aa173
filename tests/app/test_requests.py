"""What the page asks of a model is what the same call without the page makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest_app import load_tiny
from PIL import Image

from diffusers_rdaam import (
    AttributionFileError,
    AutoRDAAMPipelineForImage2Image,
    AutoRDAAMPipelineForInpainting,
    InputError,
    RDAAMProcessor,
    explain_ablation,
)
from diffusers_rdaam.app.form import error_text
from diffusers_rdaam.app.requests import GenerationRequest, PictureRequest, Pipelines
from diffusers_rdaam.app.runs import CancelledRun, Run

PROMPT = "a cat in a hat"


def _run() -> Run:
    return Run(lambda pipe, run: None)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _same(first: Image.Image, second: Image.Image) -> bool:
    return bool((np.asarray(first) == np.asarray(second)).all())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AttributionFileError("There is no picture at /tmp/x/y/cat.png."), "at cat.png."),
        (AttributionFileError("/tmp/x/my cat.png cannot be read."), "my cat.png cannot"),
        (InputError("The word '/a/b' is not there."), "The word '/a/b' is not there."),
        (ValueError("half"), "The run failed: half"),
    ],
)
def test_an_error_says_no_place_of_the_server(error: Exception, text: str) -> None:
    assert text in error_text(error) and "/tmp" not in error_text(error)


def test_what_is_not_asked_for_is_the_model_s_own(pipelines: Pipelines) -> None:
    own = pipelines.defaults
    plain = load_tiny()
    side = plain.unet.config.sample_size * plain.vae_scale_factor
    assert (own.steps, own.guidance, own.height, own.width) == (50, 7.5, side, side)
    asked = pipelines.arguments(GenerationRequest(PROMPT, width=48))
    assert asked["num_inference_steps"] == own.steps and asked["guidance_scale"] == own.guidance
    assert (asked["height"], asked["width"]) == (own.height, 48)
    assert pipelines.arguments(GenerationRequest(PROMPT, guidance=0.0))["guidance_scale"] == 0.0


def test_each_image_of_a_batch_is_what_its_seed_makes_alone(pipelines: Pipelines) -> None:
    request = GenerationRequest(
        PROMPT, "a dog", seed=5, steps=3, guidance=3.0, height=64, width=96, images=2
    )
    run = _run()
    made = pipelines.generate(request, run)
    plain = load_tiny()
    plain.set_attn_processor(RDAAMProcessor(keep_negative=True))
    for number, one in enumerate(made):
        alone = plain(
            PROMPT,
            negative_prompt="a dog",
            generator=_generator(5 + number),
            num_inference_steps=3,
            guidance_scale=3.0,
            height=64,
            width=96,
        )
        assert one.seed == 5 + number and _same(one.image, alone.images[0])
        assert one.attribution is not None
        for mine, other in zip(one.attribution.grids, alone.attribution.grids, strict=True):
            assert torch.equal(mine.maps, other.maps)
        assert one.attribution.negative.prompt.text == "a dog"
    assert not _same(made[0].image, made[1].image)
    shown = run.progress
    assert (shown.image, shown.images, shown.step, shown.steps) == (2, 2, 3, 3)
    assert shown.attribution is not None and shown.attribution.image is not None


@pytest.mark.parametrize("masked", [False, True])
def test_an_image_from_an_image_is_what_its_pipeline_makes(
    pipelines: Pipelines, picture: Image.Image, masked: bool
) -> None:
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (48, 0, 96, 64))
    request = GenerationRequest(
        PROMPT,
        seed=2,
        steps=4,
        guidance=2.0,
        start=picture,
        mask=mask if masked else None,
        strength=0.75,
        height=64,
        width=96,
    )
    (made,) = pipelines.generate(request, _run())
    auto: Any = AutoRDAAMPipelineForInpainting if masked else AutoRDAAMPipelineForImage2Image
    pipe = auto.from_pipe(load_tiny())
    pipe.set_progress_bar_config(disable=True)
    more = {"mask_image": mask, "height": 64, "width": 96} if masked else {}
    alone = pipe(
        PROMPT,
        image=picture,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=2.0,
        generator=_generator(2),
        **more,
    )
    assert _same(made.image, alone.images[0])
    assert made.attribution is not None and (made.attribution.mask is not None) == masked


def test_a_cancelled_generation_leaves_the_model_as_it_was(pipelines: Pipelines) -> None:
    request = GenerationRequest(PROMPT, seed=1, steps=6, guidance=2.0, height=64, width=64)
    (before,) = pipelines.generate(request, _run())
    run = _run()
    stock = run.at_step

    def cancel_at(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        if step == 2:
            run.cancel()
        return stock(pipe, step, timestep, tensors)

    run.at_step = cancel_at  # type: ignore[method-assign]
    with pytest.raises(CancelledRun):
        pipelines.generate(request, run)
    assert run.progress.step == 3
    (after,) = pipelines.generate(request, _run())
    assert _same(before.image, after.image)


def test_concepts_queries_and_steps_are_recorded_where_asked(pipelines: Pipelines) -> None:
    request = GenerationRequest(
        PROMPT,
        steps=2,
        height=64,
        width=64,
        vocabulary=("a dog",),
        keep_steps=True,
        keep_queries=True,
        keep_self_attention=True,
    )
    (made,) = pipelines.generate(request, _run())
    found = made.attribution
    assert found is not None and list(found.vocabulary) == ["a dog"]
    assert len(found.steps) == 2 and found.self_grids and found.queries is not None
    asked = pipelines.ask(found, "a dog", _run())
    assert asked.prompt.text == "a dog"
    with pytest.raises(InputError, match="text is empty"):
        pipelines.ask(found, "  ", _run())


def test_an_explanation_is_of_the_image_that_was_made(pipelines: Pipelines) -> None:
    request = GenerationRequest("a cat", seed=4, steps=2, guidance=2.0, height=64, width=64)
    (made,) = pipelines.generate(request, _run())
    words = pipelines.explain("ablation", request, made.seed, (0, 0, 32, 32), _run())
    assert _same(words.image, made.image)
    alone = explain_ablation(
        load_tiny(),
        "a cat",
        region=(0, 0, 32, 32),
        generator=_generator(4),
        num_inference_steps=2,
        guidance_scale=2.0,
        height=64,
        width=64,
    )
    assert words.to_dict() == alone.to_dict()
    gradients = pipelines.explain("gradient", request, made.seed, (0, 0, 32, 32), _run())
    assert _same(gradients.image, made.image) and gradients.memory is not None


def test_a_picture_is_attributed_as_without_the_page(
    pipelines: Pipelines, picture: Image.Image
) -> None:
    found = pipelines.attribute_picture(PictureRequest(picture, PROMPT, seed=3), _run())
    alone = load_tiny().attribute_image(picture, PROMPT, generator=_generator(3))
    for mine, other in zip(found.grids, alone.grids, strict=True):
        assert torch.equal(mine.maps, other.maps)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": " \n "}, "The prompt is empty"),
        ({"prompt": None}, "The prompt is a text; got a NoneType"),
        ({"prompt": "x" * 10_001}, "10001 characters; at most 10000"),
        ({"prompt": "a \ud800 cat"}, "not valid Unicode"),
        ({"prompt": "a \x00 cat"}, r"control character '\\x00'"),
        ({"negative_prompt": 3}, "The negative prompt is a text"),
        ({"seed": -1}, "The seed is a whole number from 0"),
        ({"seed": True}, "The seed is a whole number"),
        ({"steps": 0}, "number of steps is a whole number from 1 to 1000; got 0"),
        ({"steps": 10**9}, "number of steps"),
        ({"images": 17}, "number of images is a whole number from 1 to 16"),
        (
            {"height": 100},
            "multiple of 16 pixels; got 100. The next ones are 96 and 112",
        ),
        ({"width": -16}, "width is a whole number from 16"),
        ({"height": 100_000}, "height is a whole number from 16 to 16384; got 100000"),
        ({"width": 2**13, "height": 2**13}, "image of 8192 by 8192 pixels is too large"),
        ({"guidance": float("nan")}, "guidance is a number from 0 to 1000"),
        ({"guidance": 1.0, "negative_prompt": "a dog"}, "no effect with guidance 1"),
        ({"strength": 0.0}, "strength is a number over 0"),
        ({"strength": "all"}, "strength is a number over 0"),
        ({"vocabulary": ("x",) * 17}, "17 concepts were given; at most 16"),
        ({"mask": Image.new("L", (8, 8), 255)}, "without an image to begin from"),
        (
            {"mask": Image.new("L", (8, 8)), "start": Image.new("RGB", (8, 8))},
            "The mask is empty",
        ),
    ],
)
def test_a_wrong_request_says_what_was_wanted(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        GenerationRequest(**{"prompt": PROMPT, **changed})


@pytest.mark.parametrize(
    ("changed", "text"),
    [({"prompt": " "}, "The text is empty"), ({"method": "guess"}, "'guess' is not a method")],
)
def test_a_wrong_picture_request_says_what_was_wanted(
    picture: Image.Image, changed: dict[str, Any], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        PictureRequest(**{"picture": picture, "prompt": PROMPT, **changed})
