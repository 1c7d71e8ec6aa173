"""Regions, checkpointing, last steps, memory: what changes the price and what the result."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.explain.gradients.gradient import explain_gradient
from diffusers_rdaam.explain.gradients.memory import GradientMemory, saved_bytes
from diffusers_rdaam.explain.gradients.regeneration import GradientOptions, GradientRegeneration

BOX, REST = (24, 8, 72, 40), (0, 40, 96, 64)


def calls_of(pipe):
    """Counts the denoiser's calls, those that are computed again included."""
    counted = []
    pipe.unet.register_forward_pre_hook(lambda *_: counted.append(torch.is_grad_enabled()))
    return counted


@pytest.mark.parametrize(
    "case, again",
    [
        # Two steps, each once more on the way back of both regions together.
        ("StableDiffusion", 2),
        # A PIL image makes activations of another layout, of which torch batches no way back.
        ("StableDiffusionImg2Img", 4),
    ],
)
def test_many_regions_from_one_generation_are_those_of_each_alone(
    case, again, make, settings, prompt
):
    pipe = make(case)
    given = settings(case)
    alone = [explain_gradient(pipe, prompt, region=box, **given) for box in (BOX, REST)]
    counted = calls_of(pipe)
    both = explain_gradient(pipe, prompt, regions=[BOX, REST], **given)
    # The two steps, and one call of which only the bytes are counted.
    assert len(counted) == 2 + 1 + again
    for one, other in zip(alone, both, strict=True):
        assert torch.allclose(one.values, other.values, rtol=1e-5)
        assert one.pixels is None or torch.equal(one.pixels.values, other.pixels.values)
    assert not torch.allclose(both[0].values, both[1].values, rtol=1e-2)


def test_the_gradients_of_disjoint_regions_add(make, settings, prompt):
    pipe = make()
    top, bottom, whole = (0, 0, 96, 40), (0, 40, 96, 64), (0, 0, 96, 64)
    regeneration = GradientRegeneration(
        pipe,
        GradientOptions("any", None, True, False, True, None),
        [explain_region(box) for box in (top, bottom, whole)],
    )
    regeneration.run(settings() | {"prompt": prompt})
    upper, lower, both = (gradients["text"] for gradients in regeneration.gradients())
    assert torch.allclose(upper + lower, both, rtol=1e-3, atol=1e-5 * float(both.abs().max()))


def explain_region(box):
    from diffusers_rdaam.geometry.region import as_region

    return as_region(box)


def test_checkpointing_changes_the_memory_and_nothing_else(make, settings, prompt):
    pipe = make("StableDiffusionXL")
    given = settings("StableDiffusionXL")
    one, other = (
        explain_gradient(pipe, prompt, region=BOX, checkpointing=on, **given)
        for on in (True, False)
    )
    assert torch.equal(one.values, other.values)
    assert one.memory.call == other.memory.call > 10 * one.memory.inputs
    assert one.memory.peak < other.memory.peak


def test_the_grad_mode_is_left_as_it_was(make, settings, prompt):
    pipe = make()
    pipe.unet.mid_block.requires_grad_(False)
    before = {name: weight.requires_grad for name, weight in pipe.unet.named_parameters()}
    assert len(set(before.values())) == 2
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            enabled = torch.is_grad_enabled()
            words = explain_gradient(pipe, prompt, region=BOX, **settings())
            assert torch.is_grad_enabled() == enabled
        assert words["cat"] > 0
    assert before == {name: w.requires_grad for name, w in pipe.unet.named_parameters()}
    assert all(weight.grad is None for weight in pipe.unet.parameters())


def test_the_last_steps_alone(make, settings, prompt):
    pipe = make()
    found = [
        explain_gradient(pipe, prompt, region=BOX, last_steps=steps, **settings())
        for steps in (None, 2, 1)
    ]
    assert torch.equal(found[0].values, found[1].values)
    assert not torch.allclose(found[0].values, found[2].values, rtol=0.1)
    assert [words.memory.calls for words in found] == [2, 2, 1]
    counted = calls_of(pipe)
    explain_gradient(pipe, prompt, region=BOX, last_steps=1, checkpointing=False, **settings())
    assert counted == [False, True, True]


def test_an_input_image_has_no_scores_with_last_steps(make, settings, prompt):
    case = "StableDiffusionImg2Img"
    words = explain_gradient(make(case), prompt, region=BOX, last_steps=1, **settings(case))
    assert words.pixels is None


def test_the_price_is_told_before_the_first_call_and_refused(make, settings, prompt, capsys):
    pipe = make()
    pipe.set_progress_bar_config(disable=False)
    words = explain_gradient(pipe, prompt, region=BOX, **settings())
    assert str(words.memory) in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    text = r"over the budget of 1 kB. Less is kept with last_steps= or a smaller image; or allow"
    with pytest.raises(InputError, match=text):
        explain_gradient(pipe, prompt, region=BOX, budget=1000, **settings())
    with pytest.raises(InputError, match=r"Less is kept with checkpointing=True; or allow it"):
        explain_gradient(pipe, prompt, region=BOX, budget=1000, checkpointing=False, **settings())
    allowed = explain_gradient(pipe, prompt, region=BOX, budget=words.memory.peak, **settings())
    assert torch.equal(allowed.values, words.values)


def test_bytes_are_counted_once_each_and_let_go():
    weight = torch.ones(100, 100)
    given = torch.ones(50, 100, requires_grad=True)

    def function():
        product = given @ weight
        return (product.exp() * product.sin()).sum()

    # exp keeps its result, sin its input; the product of both keeps both factors.
    kept = saved_bytes(function, [weight])
    assert kept == 3 * 50 * 100 * 4
    assert saved_bytes(function, []) == kept + 100 * 100 * 4


def test_memory_in_words():
    memory = GradientMemory(
        call=10**9, inputs=10**6, decoder=2 * 10**9, calls=20, checkpointing=True
    )
    assert memory.peak == 20 * 10**6 + 2 * 10**9
    assert str(memory).startswith("Gradients through 20 denoiser calls keep 2.02 GB (1 GB a call")


def test_clamped_pixels_do_not_count(make, settings, prompt):
    pipe = make()
    # So bright that all of the image is cut at 1.
    pipe.vae.decoder.conv_out.bias.data += 100.0
    clamped = explain_gradient(pipe, prompt, region=BOX, **settings())
    assert not clamped.values.any() and all(word.share == 0.0 for word in clamped)
    assert explain_gradient(pipe, prompt, region=BOX, clamp=False, **settings()).values.any()
    pipe.vae.decoder.conv_out.bias.data -= 100.0


@pytest.mark.parametrize(
    "more, text",
    [
        ({"method": "gradcam"}, "'gradcam' is not a method. Choices: 'grad_x_input', 'max_grad'"),
        (
            {"pixel_method": "integrated_gradients"},
            "is not a pixel_method. Choices: 'grad_x_input'",
        ),
        ({"last_steps": 0}, r"last_steps= is a whole number from 1; got 0"),
        ({"last_steps": 3}, r"last_steps=3, but the run has 2 steps. Give at most that"),
        ({"budget": 1.5}, r"budget= is a whole number from 1; got 1.5"),
        ({"path_steps": None}, r"path_steps= is a whole number from 1; got None"),
        ({"method": "integrated_gradients", "last_steps": 1}, "goes with the other methods"),
        ({"regions": []}, "regions= is empty"),
        ({"region": BOX, "regions": [BOX]}, "region= for one region or regions= for several"),
        ({"output_type": "np"}, "output_type= is not an argument here"),
        ({"num_images_per_prompt": 2}, "One image at a time is explained"),
        ({"padding_mask_crop": 8}, "works on a crop that is pasted"),
        ({"prompt_2": "a dog"}, "With prompt_2='a dog' the text encoders see different texts"),
    ],
)
def test_bad_arguments(more, text, make, settings, prompt):
    with pytest.raises(InputError, match=text):
        explain_gradient(make(), prompt, **settings(), **more)


def test_one_prompt_at_a_time(make, settings):
    with pytest.raises(InputError, match=r"as a text; got \['a cat', 'a dog'\]. Call once for"):
        explain_gradient(make(), ["a cat", "a dog"], **settings())


def test_a_region_outside_of_the_image_costs_no_call(make, settings, prompt):
    pipe = make()
    counted = calls_of(pipe)
    with pytest.raises(RegionError, match="lies outside the image, which is 96 pixels wide"):
        explain_gradient(pipe, prompt, regions=[BOX, (200, 0, 220, 20)], **settings())
    assert counted == []


def test_embeddings_with_their_text(make, settings, prompt):
    pipe = make()
    embeds, negative = (part.detach() for part in pipe.encode_prompt(prompt, "cpu", 1, True))
    words = explain_gradient(pipe, prompt, region=BOX, **settings())
    given = settings(prompt_embeds=embeds, negative_prompt_embeds=negative)
    assert torch.equal(explain_gradient(pipe, prompt, region=BOX, **given).values, words.values)


def test_without_a_generator_it_is_the_next_image(make, settings, prompt):
    pipe = make()
    given = settings()
    del given["generator"]
    torch.manual_seed(5)
    words = explain_gradient(pipe, prompt, region=BOX, **given)
    assert words.image.tobytes() == pipe(prompt, **given).images[0].tobytes()
