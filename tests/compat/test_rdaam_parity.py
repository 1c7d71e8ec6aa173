"""rdaam's own numbers on the same model and noise; and where ours are others, on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from diffusers_rdaam.compat import rdaam
from diffusers_rdaam.demo.loader import WEIGHTS
from diffusers_rdaam.errors import AlreadyRecordingError, InputError, RegionError

FILE = "parity/data/rdaam_p0_simple.safetensors"
PROMPT = "a photo of a cat sitting on a red chair"
BOXES = ("peer_default", "full", "small", "out_of_range")


@pytest.fixture(scope="module")
def small() -> Any:
    """The embedded model as a stock pipeline; rdaam's hooks are for a UNet that nobody records."""
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def hooked(small: Any) -> Any:
    """A run with the hooks on it, and the same run's map of all tokens."""
    manager = rdaam.AttentionHookManager()
    handles = manager.register_hooks(small.unet)
    try:
        generator = torch.Generator().manual_seed(42)
        image = small(PROMPT, generator=generator, num_inference_steps=3).images[0]
    finally:
        rdaam.remove_hooks(handles)
    again = rdaam.run_reverse_daam(PROMPT, 42, 3, "", None, pipe=small, return_global_map=True)
    np.testing.assert_array_equal(image, again[0])
    return manager, image, again[1]


@pytest.fixture(scope="module")
def mapped(tiny: Any) -> Any:
    return rdaam.run_reverse_daam(PROMPT, 42, 4, "", None, pipe=tiny, return_global_map=True)


def test_the_map_of_all_tokens(mapped: Any, stored: Any, close: Any) -> None:
    image, global_map, tokens = mapped
    theirs, facts = stored(FILE)
    assert facts["prompt"] == PROMPT and image.size == (512, 512)
    assert global_map.shape == (512, 512, 77)
    assert tokens == ["<|startoftext|>", *PROMPT.split(), "<|endoftext|>"]
    close(global_map[::32, ::32], theirs["global_stride8"])
    close(global_map.mean(dim=(0, 1)), theirs["global_token_mean"])
    assert torch.allclose(global_map.sum(dim=-1), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize("box", BOXES)
def test_boxes_of_a_map(mapped: Any, stored: Any, close: Any, box: str) -> None:
    theirs, facts = stored(FILE)
    scores, tokens = rdaam.extract_bbox_distribution(mapped[1], facts["boxes"][box], mapped[2])
    assert isinstance(scores, np.ndarray) and tokens == PROMPT.split()
    close(torch.from_numpy(scores), theirs[f"bbox.{box}"])


def test_a_box_of_a_run_is_that_of_its_map(small: Any) -> None:
    box = [-5, 20, 60, 90]
    image, global_map, decoded = rdaam.run_reverse_daam(
        PROMPT, 42, 1, "", box, pipe=small, return_global_map=True
    )
    same, tokens, scores = rdaam.run_reverse_daam(PROMPT, 42, 1, "", box, small)
    np.testing.assert_array_equal(image, same)
    expected, own = rdaam.extract_bbox_distribution(global_map, box, decoded)
    assert tokens == own == decoded[1:-1]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_the_regions_of_a_word(small: Any, mapped: Any, stored: Any, close: Any) -> None:
    theirs, facts = stored(FILE)
    assert facts["words"]["0"] == {"word": "cat", "columns": [5]} | facts["words"]["0"]
    close(mapped[1][::4, ::4, 5], theirs["forward.0.heat"])
    prompt = "a red circle and a red square"
    _, global_map, tokens = rdaam.run_reverse_daam(
        prompt, 1, 1, "", None, pipe=small, return_global_map=True
    )
    places = [place for place, token in enumerate(tokens) if token == "red"]
    assert len(places) == 2
    image, heat_map, mask = rdaam.run_forward_daam(small, prompt, "Red", seed=1, steps=1, tau=0.9)
    assert image is not None and heat_map is not None and mask is not None
    close(heat_map, global_map[..., places].mean(dim=-1))
    assert torch.equal(mask, (heat_map > 0.9 * heat_map.max()).float())
    assert 0 < mask.mean() < 1


def test_words_are_whole_words(tiny: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """rdaam takes "a" for the start token, "cat" and "chair"; "Cat" and "red chair" it misses."""
    monkeypatch.setattr(type(tiny), "__call__", lambda *args, **kwargs: pytest.fail("generated"))
    assert rdaam.run_forward_daam(tiny, PROMPT, "c") == (None, None, None)
    assert "'c' is not a word of the prompt" in caplog.text


def test_a_box_that_is_none(mapped: Any, tiny: Any) -> None:
    for box in ([100, 100, 100, 200], [200, 100, 100, 200], [600, 0, 700, 10], [5, 5, -5, 50]):
        with pytest.raises(RegionError):
            rdaam.extract_bbox_distribution(mapped[1], box, mapped[2])
    with pytest.raises(InputError, match="No box was given"):
        rdaam.run_reverse_daam(PROMPT, 42, 4, "", None, pipe=tiny)


def test_hooks_see_every_layer_and_call(hooked: Any, small: Any, close: Any) -> None:
    manager, image, expected = hooked
    maps = manager.attention_maps
    names = [name for name, _ in small.unet.named_modules() if name.endswith("attn2")]
    assert sorted(maps) == sorted(names)
    assert all(len(calls) == 3 for calls in maps.values())
    # The four heads of the conditional row.
    shapes = {tuple(calls[0].shape) for calls in maps.values()}
    assert shapes == {(4, places, 77) for places in (256, 64)}
    close(rdaam.process_attention_maps(maps, image.size), expected)
    pair = rdaam.process_attention_maps(maps, image.size, token_indices=[5, 9])
    close(pair, expected[..., [5, 9]].mean(dim=-1))


def test_maps_of_ones_own_with_both_halves(hooked: Any, close: Any) -> None:
    manager, image, expected = hooked
    both = {
        name: [torch.cat([torch.rand_like(call), call]) for call in calls]
        for name, calls in manager.attention_maps.items()
    }
    close(rdaam.process_attention_maps(both, image.size), expected)


def test_hooks_without_guidance_keep_all_heads(small: Any) -> None:
    before = dict(small.unet.attn_processors)
    manager = rdaam.AttentionHookManager()
    assert manager.attention_maps == {}
    handles = manager.register_hooks(small.unet)
    with pytest.raises(AlreadyRecordingError, match="registered already"):
        manager.register_hooks(small.unet)
    options = {"guidance_scale": 1.0, "output_type": "latent", "num_inference_steps": 1}
    small(PROMPT, height=64, width=128, **options)
    manager.reset()
    assert manager.attention_maps == {}
    small(PROMPT, height=64, width=128, **options)
    rdaam.remove_hooks(handles)
    rdaam.remove_hooks(handles)
    assert small.unet.attn_processors == before
    maps = manager.attention_maps
    assert all(len(calls) == 1 and len(calls[0]) == 4 for calls in maps.values())
    # An image that is not square, which rdaam cannot have.
    everything = rdaam.process_attention_maps(maps, (128, 64))
    assert everything.shape == (64, 128, 77)
    assert torch.allclose(everything.sum(dim=-1), torch.tensor(1.0), atol=1e-5)
    manager.reset()
    assert manager.attention_maps == {}


def test_two_images_of_one_call_need_to_be_told_apart_from_guidance(small: Any) -> None:
    options = {"guidance_scale": 1.0, "output_type": "latent", "num_inference_steps": 1}
    manager = rdaam.AttentionHookManager(guided=False)
    handles = manager.register_hooks(small.unet)
    small(PROMPT, height=64, width=64, num_images_per_prompt=2, **options)
    rdaam.remove_hooks(handles)
    assert all(len(calls[0]) == 8 for calls in manager.attention_maps.values())


def test_maps_that_are_no_grid_of_the_image() -> None:
    with pytest.raises(InputError, match="no attention maps"):
        rdaam.process_attention_maps({}, (64, 64))
    with pytest.raises(
        InputError, match="The 97 places of here are not a grid of an image of 64x64"
    ):
        rdaam.process_attention_maps({"here": [torch.rand(2, 97, 5)]}, (64, 64))
    # 100 pixels are 13 cells of 8, and 7 and 4 after two halvings.
    maps = {"here": [torch.rand(2, places, 5) for places in (13 * 8, 7 * 4, 4 * 2)]}
    assert rdaam.process_attention_maps(maps, (64, 100)).shape == (100, 64, 5)


def test_a_grid_is_laid_out_as_the_image_is() -> None:
    """A token that is seen in the upper rows alone."""
    grid = torch.zeros(4, 8)
    grid[0] = 1
    result = rdaam.process_attention_maps({"here": [grid.reshape(1, 32, 1)]}, (64, 32))
    assert result.shape == (32, 64, 1)
    expected = torch.nn.functional.interpolate(grid[None, None], size=(32, 64), mode="bicubic")
    assert torch.allclose(result[..., 0], expected[0, 0], atol=1e-5)
