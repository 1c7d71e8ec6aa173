"""Batches: every prompt has its image, the one that it would have alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from alike import alike
from toys import CASES, Case, call, mask, picture, toy

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
PROMPTS = ["a red cat near a house", "two dogs", "a house, a tree and a very small blue bird"]


def batch_of(case: Case, number: int) -> dict[str, Any]:
    """As many pictures as there are images to be made, each another."""
    pictures = {"image": lambda i: picture(i), "control_image": lambda i: picture(10 + i)}
    pictures["mask_image"] = lambda i: mask()
    given: dict[str, Any] = {
        name: [make(i) for i in range(number)]
        for name, make in pictures.items()
        if name in case.call
    }
    given["generator"] = [torch.Generator().manual_seed(i) for i in range(number)]
    return given


@pytest.mark.parametrize("case", ALL[::3])
def test_prompts_of_several_lengths(case):
    output = alike(toy(case), lambda pipe: call(case, pipe, PROMPTS, **batch_of(case, 3))).result
    assert len(output.images) == len(output.attributions) == 3
    assert [attribution.prompt.text for attribution in output.attributions] == PROMPTS


@pytest.mark.parametrize("case", ALL)
def test_an_image_of_a_batch_is_the_one_made_alone(case):
    _, ours = toy(case)
    settings = {"output_type": "latent"}
    together = call(case, ours, PROMPTS[:2], **(batch_of(case, 2) | settings))
    one = {name: values[1] for name, values in batch_of(case, 2).items()}
    alone = call(case, ours, PROMPTS[1], **(one | settings))
    torch.testing.assert_close(together.images[1], alone.images[0], rtol=1e-3, atol=1e-3)
    for several, single in zip(
        together.attributions[1].grids, alone.attribution.grids, strict=True
    ):
        torch.testing.assert_close(several.maps, single.maps, rtol=1e-3, atol=1e-5)


ONE_AND_TWO = [(it.values[0], 2) for it in ALL] + [(it.values[0], 1) for it in ALL[::4]]


@pytest.mark.parametrize("case, number", ONE_AND_TWO, ids=lambda it: getattr(it, "name", it))
def test_two_images_for_each_prompt(case, number):
    prompts = PROMPTS[0] if number == 1 else PROMPTS[:number]

    def treat(pipe: Any) -> Any:
        given = batch_of(case, number) | {"generator": torch.Generator().manual_seed(3)}
        if case.name in ("StableDiffusionImg2Img", "StableDiffusionInstructPix2Pix"):
            given["image"] = [picture(i) for i in range(number * 2)]
        return call(case, pipe, prompts, num_images_per_prompt=2, **given)

    output = alike(toy(case), treat).result
    assert len(output.images) == len(output.attributions) == number * 2
    wanted = [prompt for prompt in PROMPTS[:number] for _ in range(2)]
    assert [attribution.prompt.text for attribution in output.attributions] == wanted


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXLImg2Img"])
def test_prompts_too_long_for_the_encoder(name):
    """diffusers logs that it cuts them off; ours also says which words have no heat map."""
    case = CASES[name]
    prompts = [PROMPTS[0], "a cat and " * 60]

    def treat(pipe: Any) -> Any:
        return call(case, pipe, prompts, **batch_of(case, 2))

    output = alike(toy(case), treat, more="PromptTruncatedWarning").result
    assert len(output.attributions) == 2


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXL"])
@pytest.mark.parametrize("prompt", ["", " ", ["", "a red cat"], ("a red cat", "a dog")], ids=repr)
def test_empty_prompts_and_tuples(name, prompt):
    case, pipes = CASES[name], toy(CASES[name])

    def treat(pipe: Any) -> Any:
        return call(case, pipe, prompt)

    error = ValueError if isinstance(prompt, tuple) else None
    alike(pipes, treat, error=error)
