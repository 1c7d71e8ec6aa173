"""explain_gradient on Stable Diffusion 3 and FLUX.1, against stock images and their differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformer_cases import (
    BOX,
    NAMES,
    OTHER,
    PROMPT,
    WORDS,
    NothingRounded,
    case_of,
    pipeline,
    processors,
    settings,
)

from diffusers_rdaam.errors import GradientError, InputError, WordError
from diffusers_rdaam.explain.gradients.gradient import explain_gradient
from diffusers_rdaam.explain.gradients.memory import saved_bytes
from diffusers_rdaam.explain.gradients.regeneration import GradientOptions, GradientRegeneration
from diffusers_rdaam.geometry.region import Box

OURS = ("StableDiffusion3Pipeline", "FluxPipeline, true guidance", "FluxInpaintPipeline")


@pytest.mark.parametrize(
    "name, ours", [*((name, False) for name in NAMES), *((name, True) for name in OURS)]
)
def test_the_image_is_the_stock_pipelines(name, ours):
    wanted = pipeline(name)(prompt=PROMPT, **settings(name)).images[0]
    pipe = pipeline(name, ours=ours)
    before, installed, given = dict(pipe.__dict__), processors(pipe), settings(name)
    state = given["generator"].get_state()
    words = explain_gradient(pipe, PROMPT, region=BOX, **given)
    assert np.array_equal(words.image, wanted)
    assert {word.text for word in words} == set(WORDS)
    assert all(word.score > 0.0 for word in words)
    assert words.pooled is not None and words.pooled > 0.0
    assert (words.pixels is not None) == ("Img2Img" in name or "Inpaint" in name)
    assert pipe.__dict__ == before and processors(pipe) == installed
    assert torch.equal(given["generator"].get_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_finite_differences(name):
    """Of the region's sum in float64, of images that the stock call makes from embeddings."""
    pipe = pipeline(name)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(torch.float64)
    given = settings(name)
    if "image" in given:
        generator = torch.Generator().manual_seed(3)
        given["image"] = torch.rand(1, 3, 16, 24, generator=generator).double() * 0.8 + 0.1
    if "image prompt" in name:
        given["ip_adapter_image_embeds"] = [torch.ones(1, 1, 32, dtype=torch.float64)]
        given["negative_ip_adapter_image_embeds"] = [torch.zeros(1, 1, 32, dtype=torch.float64)]
    with NothingRounded():
        regeneration = GradientRegeneration(
            pipe, GradientOptions("any", None, False, True, True, None), [Box(*BOX)]
        )
        regeneration.run(given | {"prompt": PROMPT, "generator": noise()})
        (gradients,) = regeneration.gradients()
        assert gradients.keys() >= {"text", "pooled"}
        embedded = embeddings(pipe, given)
        generator = torch.Generator().manual_seed(0)
        for leaf, gradient in gradients.items():
            assert gradient.dtype == torch.float64
            direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
            at = [region_sum(pipe, embedded, leaf, step * direction) for step in (1e-5, -1e-5)]
            wanted = (at[0] - at[1]) / 2e-5
            assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-6)
            assert abs(wanted) > 1e-6


def embeddings(pipe: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The call with the embeddings that the pipeline's encoders make, in place of texts."""
    call = dict(given)
    length = {"max_sequence_length": call["max_sequence_length"]}
    negative = call.pop("negative_prompt", None)
    if "Flux" in type(pipe).__name__:
        text, pooled, _ = pipe.encode_prompt(prompt=PROMPT, prompt_2=None, **length)
        call |= {"prompt_embeds": text, "pooled_prompt_embeds": pooled}
        if negative is not None:
            text, pooled, _ = pipe.encode_prompt(prompt=negative, prompt_2=None, **length)
            call |= {"negative_prompt_embeds": text, "negative_pooled_prompt_embeds": pooled}
    else:
        text, other, pooled, other_pooled = pipe.encode_prompt(
            prompt=PROMPT,
            prompt_2=None,
            prompt_3=None,
            negative_prompt=negative,
            do_classifier_free_guidance=negative is not None,
            **length,
        )
        call |= {"prompt_embeds": text, "pooled_prompt_embeds": pooled}
        if negative is not None:
            call |= {"negative_prompt_embeds": other, "negative_pooled_prompt_embeds": other_pooled}
    return {
        key: value.detach() if isinstance(value, torch.Tensor) else value
        for key, value in call.items()
    }


def region_sum(pipe: Any, call: dict[str, Any], leaf: str, shift: torch.Tensor) -> float:
    """Of the stock pipeline's image, with one of its inputs shifted."""
    name = {"text": "prompt_embeds", "pooled": "pooled_prompt_embeds", "pixels": "image"}[leaf]
    # The model reads an image of 0 to 1 as one of -1 to 1.
    shift = shift / 2 if leaf == "pixels" else shift
    shifted = call | {name: call[name] + shift, "generator": noise(), "output_type": "pt"}
    left, top, right, bottom = BOX
    return float(pipe(**shifted).images[0][:, top:bottom, left:right].sum())


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("method", ["grad_x_input", "max_grad", "min_grad", "mean_grad"])
def test_a_word_is_its_columns_in_both_encoders(method):
    name = "StableDiffusion3Pipeline"
    pipe = pipeline(name)
    words = explain_gradient(pipe, PROMPT, region=BOX, method=method, **settings(name))
    assert words.prompt.encoders == ("clip", "t5") and words.values.shape == (77 + 24,)
    clip = [float(words.values[column]) for column in clip_columns(pipe, "umbrella")]
    t5 = [float(words.values[77 + column]) for column in t5_columns(pipe, "umbrella")]
    assert len(clip) > 1 and len(t5) > 1
    merged = {
        "grad_x_input": lambda scores: math.sqrt(sum(score**2 for score in scores)),
        "max_grad": max,
        "min_grad": min,
        "mean_grad": lambda scores: sum(scores) / len(scores),
    }[method]
    assert words["umbrella"] == pytest.approx(merged(clip + t5))
    assert words.score_of("umbrella", encoder="clip") == pytest.approx(merged(clip))
    assert words.score_of("umbrella", encoder="t5") == pytest.approx(merged(t5))
    with pytest.raises(WordError, match="'gemma'"):
        words.score_of("umbrella", encoder="gemma")


def clip_columns(pipe: Any, word: str) -> list[int]:
    return columns_of(pipe.tokenizer, word)


def t5_columns(pipe: Any, word: str) -> list[int]:
    return columns_of(pipe.tokenizer_3, word)


def columns_of(tokenizer: Any, word: str) -> list[int]:
    """By the tokenizer's offsets."""
    start = PROMPT.index(word)
    spans = tokenizer(PROMPT, return_offsets_mapping=True).offset_mapping
    inside = [end > start and begin < start + len(word) for begin, end in spans]
    return [index for index, yes in enumerate(inside) if yes]


def test_without_t5_its_columns_are_padding():
    name = "StableDiffusion3Pipeline"
    pipe = pipeline(name)
    pipe.text_encoder_3 = pipe.tokenizer_3 = None
    words = explain_gradient(pipe, PROMPT, region=BOX, method="mean_grad", **settings(name))
    assert len(words.prompt.tokens) == len(words.values) == 77 + 24
    assert {token.kind for token in words.prompt.tokens[77:]} == {"padding"}
    assert {word.text for word in words} == set(WORDS) and words["cat"] > 0.0


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline, no guidance", "FluxPipeline"])
def test_integrated_gradients_sum_to_the_difference(name):
    found = explain_gradient(
        pipeline(name),
        PROMPT,
        regions=[BOX, OTHER],
        method="integrated_gradients",
        path_steps=8,
        clamp=False,
        **settings(name),
    )
    for words in found:
        parts = sum(word.score for word in words) + sum(words.special.values())
        assert parts == pytest.approx(words.difference * (1 + words.delta), rel=1e-3)
        assert abs(words.delta) < 0.02 and abs(words.difference) > 1e-3
        assert words.pooled != 0.0


@pytest.mark.parametrize(
    "name, calls", [("StableDiffusion3Pipeline", 1), ("FluxPipeline, true guidance", 2)]
)
def test_the_last_steps_alone(name, calls, caplog):
    """A step of FLUX with true guidance has a call of the negative prompt."""
    pipe = pipeline(name)
    seen: list[bool] = []
    pipe.transformer.register_forward_pre_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    with caplog.at_level("INFO", logger="diffusers_rdaam"):
        late = explain_gradient(pipe, PROMPT, region=BOX, last_steps=1, **settings(name))
    assert late.memory.calls == calls
    assert f"Gradients through {calls} denoiser call" in caplog.text
    # The first step, a call to count the memory, the second step, and again its call with the
    # prompt: that of the negative prompt depends on nothing that is differentiated.
    assert seen == [False] * calls + [True] * (1 + calls + 1)
    whole = explain_gradient(pipe, PROMPT, region=BOX, last_steps=2, **settings(name))
    assert whole.memory.calls == 2 * calls and whole["cat"] != late["cat"]
    with pytest.raises(InputError, match="last_steps=3, but the run has 2 steps"):
        explain_gradient(pipe, PROMPT, last_steps=3, **settings(name))


def test_the_memory_of_the_decoder_is_of_the_whole_latent():
    """Of FLUX's latent as it is before two by two cells become a position."""
    name = "FluxPipeline"
    pipe = pipeline(name)
    words = explain_gradient(pipe, PROMPT, region=BOX, **settings(name))
    latent = torch.zeros(1, 4, 16 // 2, 24 // 2, requires_grad=True)
    pipe.vae.requires_grad_(False)
    wanted = saved_bytes(lambda: pipe.vae.decode(latent), pipe.vae.parameters())
    assert words.memory.decoder == wanted


def test_checkpointing_computes_the_same_with_an_image_prompt():
    """The pipeline writes the image prompt of each call into the same dictionary."""
    name = "FluxPipeline, image prompt"
    given = settings(name, negative_prompt="rain", true_cfg_scale=3.0)
    kept, again = (
        explain_gradient(
            pipeline(name), PROMPT, region=BOX, checkpointing=checkpointing, **fresh(given)
        )
        for checkpointing in (False, True)
    )
    assert torch.allclose(kept.values, again.values, rtol=1e-4)


def fresh(given: dict[str, Any]) -> dict[str, Any]:
    return given | {"generator": noise()}


def test_after_a_stock_run():
    """Whose cache context leaves an empty registry of hooks; a hook in it is refused."""
    name = "FluxPipeline"
    pipe = pipeline(name)
    pipe(prompt=PROMPT, **settings(name))
    assert explain_gradient(pipe, PROMPT, region=BOX, **settings(name))["cat"] > 0.0
    pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    with pytest.raises(GradientError, match=r"pipe.transformer: diffusers' hooks change it"):
        explain_gradient(pipe, PROMPT, region=BOX, **settings(name))


@pytest.mark.parametrize(
    "name, more, text",
    [
        ("StableDiffusion3Pipeline", {"prompt_2": "a dog"}, "With prompt_2='a dog' the text enc"),
        ("StableDiffusion3Pipeline", {"prompt_3": "a dog"}, "With prompt_3='a dog' the text enc"),
        ("FluxPipeline", {"prompt_2": "a dog"}, "With prompt_2='a dog' the text encoders see"),
        (
            "FluxPipeline",
            {"budget": 1000},
            "over the budget of 1 kB. Less is kept with last",
        ),
        ("FluxPipeline", {"prompt_3": PROMPT}, r"explain_gradient\(\) has no argument 'prompt_3'"),
    ],
)
def test_bad_arguments(name, more, text):
    with pytest.raises(InputError, match=text):
        explain_gradient(pipeline(name), PROMPT, **settings(name), **more)


def test_the_same_text_for_every_encoder_is_one_text():
    name = "StableDiffusion3Pipeline"
    pipe = pipeline(name)
    wanted = explain_gradient(pipe, PROMPT, region=BOX, **settings(name))
    more = {"prompt_2": PROMPT, "prompt_3": PROMPT}
    found = explain_gradient(pipe, PROMPT, region=BOX, **settings(name), **more)
    assert found.prompt == wanted.prompt and torch.equal(found.values, wanted.values)
    assert case_of(name).call["max_sequence_length"] == 24
