"""Saving the attention of a run, and making another attend with it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from oracle import watched
from toys import CASES, call, toy

from diffusers_rdaam import load_demo_pipeline, record_attention
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.editing.column_matching import match_columns
from diffusers_rdaam.editing.editing import inject_attention, save_attention
from diffusers_rdaam.editing.processors import blend
from diffusers_rdaam.editing.saved_attention import SavedAttention
from diffusers_rdaam.errors import AlreadyRecordingError, AttributionFileError, InputError

PROMPT = "a red cat near a house"
SETTINGS = {"num_inference_steps": 2, "guidance_scale": 5.0, "height": 64, "width": 96}


def run(function, *args, seed: int = 7, **more):
    generator = torch.Generator().manual_seed(seed)
    return function(*args, **(SETTINGS | {"generator": generator, "output_type": "np"} | more))


@pytest.mark.parametrize("kind", ["stock", "ours"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_what_is_saved_is_what_was_attended_and_the_image_is_the_same(kind, guidance):
    stock, ours = toy(CASES["StableDiffusion"])
    pipe = stock if kind == "stock" else ours
    before = dict(pipe.unet.attn_processors)
    with watched(pipe) as seen:
        plain = run(pipe, PROMPT, guidance_scale=guidance, num_images_per_prompt=2)
    more = {"guidance_scale": guidance, "num_images_per_prompt": 2}
    output, saved = run(save_attention, pipe, PROMPT, **more)
    assert np.array_equal(output.images, plain.images)
    after = pipe.unet.attn_processors
    assert all(after[name] is before[name] for name in before if "attn1" in name)
    assert {type(p) for p in after.values()} == {type(p) for p in before.values()} or kind == "ours"
    assert set(saved.maps) == set(seen) and (saved.steps, saved.images) == (2, 2)
    assert saved.prompt.text == PROMPT and saved.grid == (8, 12)
    for name, pairs in seen.items():
        for step, (query, key) in enumerate(pairs):
            logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            wanted = logits.softmax(dim=-1)[-2:]
            got = saved.maps[name][step].double()
            assert got.shape == wanted.shape
            assert (got - wanted).abs().max() < 1e-3, "half precision"
    assert saved.nbytes == sum(maps.numel() * 2 for maps in saved.maps.values())
    # The pipeline is what it was, and recording goes on.
    if kind == "ours":
        assert run(pipe, PROMPT).attribution.words


def test_its_own_attention_changes_next_to_nothing_and_anothers_does():
    pipe, _ = toy(CASES["StableDiffusion"])
    plain, saved = run(save_attention, pipe, PROMPT)
    same = run(inject_attention, pipe, saved, PROMPT)
    assert np.abs(same.images - plain.images).max() < 1e-3
    other = run(pipe, "two blue dogs on a mat")
    edited = run(inject_attention, pipe, saved, "two blue dogs on a mat")
    assert not np.array_equal(edited.images, other.images)
    never = run(inject_attention, pipe, saved, "two blue dogs on a mat", steps=[])
    assert np.array_equal(never.images, other.images)
    first = run(inject_attention, pipe, saved, "two blue dogs on a mat", steps=slice(0, 1))
    assert not np.array_equal(first.images, edited.images)
    assert not np.array_equal(first.images, other.images)


def test_stable_diffusion_xl_and_image_to_image():
    for name in ("StableDiffusionXL", "StableDiffusionImg2Img"):
        case = CASES[name]
        _, ours = toy(case)
        settings = case.call | {"num_inference_steps": 4} | {"output_type": "np"}
        plain = call(case, ours, **settings)
        generator = torch.Generator().manual_seed(7)
        output, saved = save_attention(
            ours, PROMPT, guidance_scale=5.0, generator=generator, **settings
        )
        assert np.array_equal(output.images, plain.images)
        generator = torch.Generator().manual_seed(7)
        again = inject_attention(
            ours, saved, PROMPT, guidance_scale=5.0, generator=generator, **settings
        )
        assert np.abs(again.images - plain.images).max() < 1e-3


def test_a_swapped_word_takes_the_place_of_the_other():
    torch.manual_seed(0)
    pipe = load_demo_pipeline()
    settings = {"height": 128, "width": 128, "num_inference_steps": 20, "guidance_scale": 4.0}
    blue, green = "a red circle and a blue square", "a red circle and a green triangle"
    output, saved = run(save_attention, pipe, blue, seed=3, **settings)
    edited = run(inject_attention, pipe, saved, green, seed=3, **settings)
    plain = run(pipe, green, seed=3, **settings)

    def colour(image: np.ndarray, channel: int) -> np.ndarray:
        others = [part for part in range(3) if part != channel]
        return image[..., channel] > 0.15 + image[..., others].max(axis=-1)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        return (a & b).sum() / (a | b).sum()

    was = colour(output.images[0], 2)
    assert was.sum() > 500
    # A triangle over a square; without the edit it is somewhere else.
    assert overlap(was, colour(edited.images[0], 1)) > 0.4
    assert overlap(was, colour(plain.images[0], 1)) < 0.1


def test_files(tmp_path):
    pipe, _ = toy(CASES["StableDiffusion"])
    plain, saved = run(save_attention, pipe, PROMPT)
    loaded = SavedAttention.load(saved.save(tmp_path / "cat.safetensors"))
    assert loaded.prompt == saved.prompt and loaded.grid == saved.grid
    assert all(torch.equal(loaded.maps[name], saved.maps[name]) for name in saved.maps)
    same = run(inject_attention, pipe, loaded, PROMPT)
    assert np.abs(same.images - plain.images).max() < 1e-3
    with pytest.raises(AttributionFileError, match="There is no file of saved attention"):
        SavedAttention.load(tmp_path / "missing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cat.safetensors").read_bytes()[:900])
    with pytest.raises(AttributionFileError):
        SavedAttention.load(tmp_path / "cut.safetensors")
    broken = copy.copy(saved)
    object.__setattr__(broken, "maps", {"a": torch.zeros(1, 1, 1, 2, 3, dtype=torch.float16)})
    with pytest.raises(InputError, match="its maps do not fit its prompt"):
        broken.save(tmp_path / "broken.safetensors")
    assert not (tmp_path / "broken.safetensors").exists()
    with pytest.raises(InputError, match="The attention could not be written to"):
        saved.save(tmp_path / "nowhere" / "cat.safetensors")


def test_budgets_and_grids():
    pipe, _ = toy(CASES["StableDiffusion"])
    memory_cost = 2 * 77 * 2 * 24 * (4 * 2)
    with pytest.raises(InputError) as error:
        run(save_attention, pipe, PROMPT, budget=memory_cost - 1)
    assert "The attention of these grids takes 59.1 kB, over the budget of" in str(error.value)
    assert "Memory: 4x6 59.1 kB. Choose grids=, fewer steps, or another budget=." in str(
        error.value
    )
    _, saved = run(save_attention, pipe, PROMPT, budget=memory_cost, grids=[(4, 6)])
    assert saved.nbytes == memory_cost
    with pytest.raises(
        InputError, match=r"no text attention on a grid of \(8, 8\) \(height, width\)"
    ):
        run(save_attention, pipe, PROMPT, grids=[(8, 8)])


def test_what_does_not_fit_is_said_before_a_step_is_spent():
    pipe, _ = toy(CASES["StableDiffusion"])
    _, saved = run(save_attention, pipe, PROMPT)
    with pytest.raises(
        InputError, match=r"of latents \(8, 12\) and 1 images, this run of \(8, 8\)"
    ):
        run(inject_attention, pipe, saved, PROMPT, width=64)
    with pytest.raises(InputError, match=r"and 1 images, this run of \(8, 12\) and 2\."):
        run(inject_attention, pipe, saved, PROMPT, num_images_per_prompt=2)
    with pytest.raises(
        InputError, match=r"numbers from 0 to 1, the denoiser calls that were saved"
    ):
        run(inject_attention, pipe, saved, PROMPT, steps=[0, 5])
    name, maps = next(iter(saved.maps.items()))
    object.__setattr__(saved, "maps", {name: maps[:, :, :1]})
    with pytest.raises(
        InputError, match=r"has \(1, 24\) heads and positions, this denoiser \(2, 24\)"
    ):
        run(inject_attention, pipe, saved, PROMPT)
    pipe.unet.set_attn_processor(pipe.unet.attn_processors)
    assert not pipe.unet._forward_pre_hooks and not pipe.unet._forward_hooks


def prompt(text: str, spans: list[tuple[int, int]], padding: int) -> Prompt:
    tokens = [Token(0, "<s>", "start")]
    for start, end in spans:
        tokens.append(Token(len(tokens), text[start:end], "text", start, end))
    tokens.append(Token(len(tokens), "<e>", "end"))
    for _ in range(padding):
        tokens.append(Token(len(tokens), "<p>", "padding"))
    return Prompt(text, tuple(tokens))


def test_columns_of_two_prompts():
    source = prompt("a cat, red", [(0, 1), (2, 5), (5, 6), (7, 10)], 2)
    assert match_columns(source, source).tolist() == list(range(8))
    # Swapped: one word of two tokens for one of one.
    swapped = prompt("a tiger, red", [(0, 1), (2, 4), (4, 7), (7, 8), (9, 12)], 1)
    assert match_columns(source, swapped).tolist() == [0, 1, 2, 2, 3, 4, 5, 7]
    # Put in: the new word attends by itself.
    longer = prompt("a big cat, red", [(0, 1), (2, 5), (6, 9), (9, 10), (11, 14)], 1)
    assert match_columns(source, longer).tolist() == [0, 1, -1, 2, 3, 4, 5, 7]
    # Left out.
    shorter = prompt("a cat", [(0, 1), (2, 5)], 4)
    assert match_columns(source, shorter).tolist() == [0, 1, 2, 5, 6, 6, 6, 7]


def test_a_blend_sums_to_one_and_leaves_new_words_to_themselves():
    generator = torch.Generator().manual_seed(0)
    saved = torch.randn(1, 2, 5, 4, generator=generator).softmax(-1)
    own = torch.randn(1, 2, 5, 5, generator=generator).softmax(-1)
    mixed = blend(saved, own, torch.tensor([0, -1, 1, 2, 3]))
    torch.testing.assert_close(mixed.sum(-1), torch.ones(1, 2, 5))
    ratio = mixed[..., 1] / mixed[..., 0]
    torch.testing.assert_close(ratio, own[..., 1] / saved[..., 0])
    assert torch.equal(blend(saved, saved, torch.arange(4)), saved / saved.sum(-1, keepdim=True))


def test_a_denoiser_that_is_edited_is_no_other_runs_meanwhile():
    stock, _ = toy(CASES["StableDiffusion"])
    tries = []

    def during(pipe, step, timestep, tensors):
        for begin in (
            lambda: run(save_attention, pipe, PROMPT),
            lambda: run(inject_attention, pipe, saved, PROMPT),
            lambda: record_attention(pipe.unet, rows="conditional").__enter__(),
        ):
            with pytest.raises(AlreadyRecordingError, match="is being recorded already"):
                begin()
            tries.append(step)
        return tensors

    _, saved = run(save_attention, stock, PROMPT)
    run(save_attention, stock, PROMPT, callback_on_step_end=during)
    run(inject_attention, stock, saved, PROMPT, callback_on_step_end=during)
    assert tries == [0, 0, 0, 1, 1, 1] * 2
    with (
        record_attention(stock.unet, rows="conditional"),
        pytest.raises(AlreadyRecordingError),
    ):
        run(save_attention, stock, PROMPT)
    assert run(save_attention, stock, PROMPT)[1].steps == 2, "and free again"
