"""rdaam's own numbers on the same model and noise; and where ours are others, on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffusers_rdaam.compat import rdaam
from diffusers_rdaam.errors import AlreadyRecordingError, InputError, RegionError

FILE = "parity/data/rdaam_p0_simple.safetensors"
PROMPT = "a photo of a cat sitting on a red chair"
BOXES = ("peer_default", "full", "small", "out_of_range")


@pytest.fixture(scope="module")
def hooked(tiny: Any) -> Any:
    """One run of the model with the hooks on it, and with the map of all tokens."""
    manager = rdaam.AttentionHookManager()
    handles = manager.register_hooks(tiny.unet)
    try:
        generator = torch.Generator().manual_seed(42)
        image = tiny(PROMPT, generator=generator, num_inference_steps=4).images[0]
    finally:
        rdaam.remove_hooks(handles)
    return manager, image


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


def test_a_box_of_a_run(tiny: Any, stored: Any, close: Any) -> None:
    theirs, facts = stored(FILE)
    box = facts["boxes"]["peer_default"]
    image, tokens, scores = rdaam.run_reverse_daam(PROMPT, 42, 4, "", box, pipe=tiny)
    assert tokens == PROMPT.split() and image.size == (512, 512)
    close(torch.from_numpy(scores), theirs["bbox.peer_default"])


def test_the_regions_of_a_word(tiny: Any, stored: Any, close: Any) -> None:
    theirs, facts = stored(FILE)
    assert facts["words"]["0"]["word"] == "cat"
    image, heat_map, mask = rdaam.run_forward_daam(tiny, PROMPT, "cat", seed=42, steps=4)
    assert image is not None and heat_map is not None and mask is not None
    close(heat_map[::4, ::4], theirs["forward.0.heat"])
    threshold = 0.5 * heat_map.max()
    assert torch.equal(mask, (heat_map > threshold).float())
    decided = (heat_map - threshold).abs()[::4, ::4] > 1e-4 * heat_map.max()
    assert torch.equal(mask[::4, ::4][decided], theirs["forward.0.mask"].float()[decided])


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


def test_hooks_see_every_layer_and_call(hooked: Any, mapped: Any, tiny: Any, close: Any) -> None:
    manager, image = hooked
    np.testing.assert_array_equal(image, mapped[0])
    maps = manager.attention_maps
    names = [name for name, _ in tiny.unet.named_modules() if name.endswith("attn2")]
    assert sorted(maps) == sorted(names)
    assert all(len(calls) == 4 for calls in maps.values())
    # The two heads of the conditional row.
    assert {tuple(calls[0].shape) for calls in maps.values()} == {
        (2, places, 77) for places in (4096, 1024, 256, 64)
    }
    close(rdaam.process_attention_maps(maps, image.size), mapped[1])
    pair = rdaam.process_attention_maps(maps, image.size, token_indices=[5, 9])
    close(pair, mapped[1][..., [5, 9]].mean(dim=-1))


def test_maps_of_ones_own_with_both_halves(hooked: Any, mapped: Any, close: Any) -> None:
    manager, image = hooked
    both = {
        name: [torch.cat([torch.rand_like(call), call]) for call in calls]
        for name, calls in manager.attention_maps.items()
    }
    close(rdaam.process_attention_maps(both, image.size), mapped[1])


def test_hooks_without_guidance_keep_all_heads(tiny: Any) -> None:
    before = dict(tiny.unet.attn_processors)
    manager = rdaam.AttentionHookManager()
    assert manager.attention_maps == {}
    handles = manager.register_hooks(tiny.unet)
    with pytest.raises(AlreadyRecordingError, match="registered already"):
        manager.register_hooks(tiny.unet)
    options = {"guidance_scale": 1.0, "output_type": "latent", "num_inference_steps": 1}
    tiny(PROMPT, height=64, width=128, **options)
    manager.reset()
    assert manager.attention_maps == {}
    tiny(PROMPT, height=64, width=128, **options)
    rdaam.remove_hooks(handles)
    rdaam.remove_hooks(handles)
    assert tiny.unet.attn_processors == before
    maps = manager.attention_maps
    assert all(len(calls) == 1 and len(calls[0]) == 2 for calls in maps.values())
    # An image that is not square, which rdaam cannot have.
    everything = rdaam.process_attention_maps(maps, (128, 64))
    assert everything.shape == (64, 128, 77)
    assert torch.allclose(everything.sum(dim=-1), torch.tensor(1.0), atol=1e-5)
    manager.reset()
    assert manager.attention_maps == {}


def test_two_images_of_one_call_need_to_be_told_apart_from_guidance(tiny: Any) -> None:
    options = {"guidance_scale": 1.0, "output_type": "latent", "num_inference_steps": 1}
    manager = rdaam.AttentionHookManager(guided=False)
    handles = manager.register_hooks(tiny.unet)
    tiny(PROMPT, height=64, width=64, num_images_per_prompt=2, **options)
    rdaam.remove_hooks(handles)
    assert all(len(calls[0]) == 4 for calls in manager.attention_maps.values())


def test_maps_that_are_no_grid_of_the_image() -> None:
    with pytest.raises(InputError, match="no attention maps"):
        rdaam.process_attention_maps({}, (64, 64))
    with pytest.raises(InputError, match="The 97 places of here are no grid of an image of 64x64"):
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
    assert torch.all(result[:4] > 0.9) and torch.all(result[20:] < 0.1)
