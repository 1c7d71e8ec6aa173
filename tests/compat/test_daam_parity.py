"""DAAM's own numbers on the same model and noise; and where ours are others, on purpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from diffusers_rdaam.compat.daam import WordHeatMap, compute_token_merge_indices, trace

PROMPT = "a photo of a cat sitting on a red chair"
MORE = "compat/data/daam_more.safetensors"
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "normalize": {"normalize": True},
    "factors_2": {"factors": [2]},
    "factors_4": {"factors": {4}},
    "head_0": {"head_idx": 0},
    "layer_0": {"layer_idx": 0},
    "layer_3_normalize": {"layer_idx": 3, "normalize": True},
    "layer_8": {"layer_idx": 8},
}


@pytest.fixture(scope="module")
def traces(tiny, latents) -> tuple[trace, trace]:
    """Two of one run, the inner one with ``low_memory``.

    The run makes two images; what DAAM has of the first one alone is compared with the first.
    """
    both = torch.cat([latents, latents.flip(-1)])
    options = {"num_inference_steps": 4, "guidance_scale": 7.5, "output_type": "latent"}
    with trace(tiny) as outer, trace(tiny, low_memory=True) as inner:
        tiny(PROMPT, latents=both, num_images_per_prompt=2, **options)
    return outer, inner


@pytest.fixture
def tracer(traces) -> trace:
    return traces[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_global_heat_maps(tracer, stored, close, variant) -> None:
    theirs, facts = stored(MORE)
    heat_map = tracer.compute_global_heat_map(**VARIANTS[variant])
    assert heat_map.heat_maps.shape == (12, 64, 64)
    close(heat_map.heat_maps[facts["rows"]], theirs[f"global.{variant}"])


def test_every_row_of_the_global_heat_map(tracer, stored, close) -> None:
    theirs, _ = stored("parity/data/daam_p0_simple.safetensors")
    close(tracer.compute_global_heat_map().heat_maps, theirs["global.default"])
    close(tracer.compute_global_heat_map(factors=[1]).heat_maps, theirs["global.factors_1"])


def test_another_prompt_takes_other_rows(tracer, stored, close) -> None:
    heat_map = tracer.compute_global_heat_map(prompt="a red cat")
    assert heat_map.prompt == "a red cat" and len(heat_map.heat_maps) == 5
    close(heat_map.heat_maps[[0, 2, 4]], stored(MORE)[0]["global.prompt_override"])
    word = heat_map.compute_word_heat_map("cat").value
    assert torch.equal(word, heat_map.heat_maps[3])


def test_word_heat_maps(tracer, stored, close) -> None:
    theirs, facts = stored("parity/data/daam_p0_simple.safetensors")
    heat_map = tracer.compute_global_heat_map()
    for index, entry in facts["words"].items():
        close(heat_map.compute_word_heat_map(entry["word"]).heatmap, theirs[f"word.{index}"])


def test_columns_of_words_by_search_number_and_offset(tiny, stored) -> None:
    _, facts = stored("parity/data/daam_p2_repeated.safetensors")
    assert len(facts["words"]) == 9
    for entry in facts["words"].values():
        columns, index = compute_token_merge_indices(
            tiny.tokenizer, facts["prompt"], entry["word"], **entry["kwargs"]
        )
        assert columns == entry["columns"]
        assert index == entry["kwargs"].get("word_idx")


def test_expanded_to_the_image(tracer, stored, close) -> None:
    word = tracer.compute_global_heat_map().compute_word_heat_map("cat")
    expanded = word.expand_as(Image.new("RGB", (512, 512)))
    assert expanded.shape == (512, 512)
    close(expanded[::8, ::8], stored(MORE)[0]["expand.0"])


def test_how_much_of_one_word_lies_in_another(tracer, stored) -> None:
    heat_map = tracer.compute_global_heat_map()
    cat, red = (heat_map.compute_word_heat_map(word) for word in ("cat", "red"))
    assert cat.compute_ioa(red) == pytest.approx(stored(MORE)[1]["ioa"], rel=1e-4)
    assert red.compute_ioa(cat) != pytest.approx(stored(MORE)[1]["ioa"], rel=1e-2)


def test_layers_and_heads_are_numbered_as_theirs(tracer, stored) -> None:
    _, facts = stored(MORE)
    assert tracer.layer_names == facts["layer_names"]
    raw = tracer.all_heat_maps
    assert sorted(list(key) for key, _ in raw) == sorted(facts["keys"])
    assert (raw.factors(), raw.heads()) == ({1, 2, 4}, {0, 1})
    assert raw.layers() == set(range(9)) and len(raw) == 18
    # Over its columns every place sums to the number of steps.
    assert all(torch.allclose(maps.sum(dim=0), torch.tensor(4.0), atol=1e-4) for _, maps in raw)


def test_low_memory_counts_the_first_layer_of_each_block(traces, stored, close) -> None:
    theirs, facts = stored(MORE)
    tracer = traces[1]
    assert sorted(list(key) for key, _ in tracer.all_heat_maps) == sorted(facts["low_memory_keys"])
    heat_map = tracer.compute_global_heat_map().compute_word_heat_map("cat")
    close(heat_map.value, theirs["low_memory.word.0"])


def test_without_guidance_all_heads_count_where_theirs_lost_half(
    tiny, latents, stored, close
) -> None:
    theirs = stored(MORE)[0]["no_guidance.word.0"]
    options = {"num_inference_steps": 4, "guidance_scale": 1.0, "output_type": "latent"}
    with trace(tiny) as tracer:
        tiny(PROMPT, latents=latents, **options)
    # With two heads what they have left is the second.
    close(tracer.compute_global_heat_map(head_idx=1).compute_word_heat_map("cat").value, theirs)
    both = tracer.compute_global_heat_map().compute_word_heat_map("cat").value
    first = tracer.compute_global_heat_map(head_idx=0).compute_word_heat_map("cat").value
    assert torch.allclose(both, (first + theirs) / 2, atol=1e-3)
    assert (both - theirs).abs().max() > 0.05 * theirs.max()


def test_every_image_has_maps_of_its_own_where_theirs_mixed_them(tracer, stored, close) -> None:
    theirs = stored(MORE)[0]["two_images.word.0"]
    first, second = (
        tracer.compute_global_heat_map(image_index=index).compute_word_heat_map("cat").value
        for index in (0, 1)
    )
    close((first + second) / 2, theirs)
    alone = stored("parity/data/daam_p0_simple.safetensors")[0]["word.0"]
    close(first, alone)
    assert (first - second).abs().max() > 0.1 * alone.max()
    assert torch.equal(tracer.compute_global_heat_map().heat_maps[5], first)


def test_an_image_that_is_not_square(tiny) -> None:
    """DAAM takes the square root of the number of places; 256x512 ends in an exception."""
    with trace(tiny) as tracer:
        tiny(PROMPT, height=256, width=512, num_inference_steps=1, output_type="latent")
    heat_map = tracer.compute_global_heat_map()
    assert heat_map.heat_maps.shape == (12, 32, 64)
    expanded = heat_map.compute_word_heat_map("cat").expand_as(Image.new("RGB", (512, 256)))
    assert expanded.shape == (256, 512), "height first, as in every array"


def test_expand_as_stretches_thresholds_and_leaves_as_it_is() -> None:
    heat_map = WordHeatMap(torch.tensor([[1.0, 1.0], [3.0, 3.0]]), "cat")
    image = Image.new("RGB", (6, 4))
    stretched = heat_map.expand_as(image)
    assert stretched.shape == (4, 6) and stretched.min() == 0 and stretched.max() <= 1
    assert torch.all(stretched[0] < stretched[3])
    absolute = heat_map.expand_as(image, absolute=True)
    assert absolute.max() > 2.9
    mask = heat_map.expand_as(image, threshold=0.5)
    assert mask[:2].sum() == 0 and torch.all(mask[2:] == 1)
    # DAAM takes a threshold of 0 for none.
    assert set(heat_map.expand_as(image, threshold=0.0).unique().tolist()) == {0.0, 1.0}
