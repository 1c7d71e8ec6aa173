"""``trace`` as a guest: what it takes, gives back, and says; and words, parses and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.compat import daam
from diffusers_rdaam.compat.daam.raw import locate
from diffusers_rdaam.errors import (
    AlreadyRecordingError,
    InputError,
    NoAttributionError,
    WordError,
)

PROMPT = "a red circle and a blue circle"


def state(pipe: Any) -> Any:
    processors = {name: id(p) for name, p in pipe.unet.attn_processors.items()}
    return type(pipe), processors, {k: id(v) for k, v in vars(pipe).items() if "_rdaam" in k}


@pytest.fixture(scope="module")
def tracer(demo: Any) -> daam.trace:
    with daam.trace(demo) as tracer:
        demo(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    return tracer


@pytest.fixture(scope="module")
def heat_map(tracer: daam.trace) -> daam.GlobalHeatMap:
    return tracer.compute_global_heat_map()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_stock_pipeline_is_what_it_was(tiny: Any, error: Any) -> None:
    before = state(tiny)
    try:
        with daam.trace(tiny):
            assert state(tiny) != before
            if error is not None:
                raise error
    except KeyboardInterrupt:
        pass
    assert state(tiny) == before


def test_a_pipeline_of_ours_keeps_its_options_and_processors(demo: Any) -> None:
    template = RDAAMProcessor(keep="steps")
    demo.set_attn_processor(template)
    try:
        first = demo(PROMPT, num_inference_steps=1).attribution
        before = state(demo)
        with daam.trace(demo) as tracer:
            # What was recorded before is no answer.
            with pytest.raises(NoAttributionError, match="no run in this block yet"):
                tracer.compute_global_heat_map()
            assert (tracer.last_prompt, tracer.last_image) == ("", None)
            assert len(tracer.all_heat_maps) == 0
        assert state(demo) == before and demo.attribution is first
        with daam.trace(demo) as tracer:
            demo("a cross", num_inference_steps=1)
        assert demo._rdaam_template is template
        assert demo.attribution.kept.axes == ("layers", "heads")
        assert demo(PROMPT, num_inference_steps=1).attribution.kept.axes == ("steps",)
        assert tracer.last_prompt == "a cross"
    finally:
        demo.set_attn_processor(RDAAMProcessor())


def test_hook_and_unhook(demo: Any) -> None:
    tracer = daam.trace(demo)
    with pytest.raises(NoAttributionError, match="within `with trace"):
        tracer.compute_global_heat_map()
    assert tracer.hook() is tracer
    with pytest.raises(AlreadyRecordingError, match="hooked already"):
        tracer.hook()
    demo(PROMPT, num_inference_steps=2, callback_on_step_end=tracer.time_callback)
    tracer.unhook()
    tracer.unhook()
    assert tracer.time_idx == 2
    assert tracer.compute_global_heat_map().prompt == PROMPT
    assert tracer.layer_names == ["up-attn-0", "up-attn-1", "down-attn-0"]


def test_what_is_not_carried_over_is_refused(demo: Any) -> None:
    for option in ({"save_heads": True}, {"load_heads": True}, {"data_dir": "heads"}):
        with pytest.raises(InputError, match="save_heads=, load_heads= and data_dir= are not"):
            daam.trace(demo, **option)


def test_what_is_not_there_is_told(tracer: daam.trace) -> None:
    # Both are what code written for DAAM catches.
    with pytest.raises(RuntimeError, match=r"head_idx=9, layer_idx=None. Factors: \[1\]; heads:"):
        tracer.compute_global_heat_map(head_idx=9)
    with pytest.raises(NoAttributionError, match=r"factors=\{4\}"):
        tracer.compute_global_heat_map(factors=[4])
    with pytest.raises(InputError, match="made 1 images, numbered from 0; there is no 1"):
        tracer.compute_global_heat_map(image_index=1)


def test_several_prompts_have_maps_of_their_own(demo: Any) -> None:
    with daam.trace(demo) as tracer:
        demo(["a cross", "a red heart"], num_inference_steps=1)
    assert tracer.compute_global_heat_map().prompt == "a cross"
    other = tracer.compute_global_heat_map(image_index=1)
    assert other.prompt == "a red heart"
    assert other.compute_word_heat_map("heart").word == "heart"


def test_embeddings_need_the_prompt(demo: Any) -> None:
    embeds, negative = demo.encode_prompt("a red heart", "cpu", 1, True)
    with daam.trace(demo) as tracer:
        demo(prompt_embeds=embeds, negative_prompt_embeds=negative, num_inference_steps=1)
    assert tracer.last_prompt == ""
    with pytest.raises(InputError, match=r"compute_global_heat_map\(prompt='…'\)"):
        tracer.compute_global_heat_map()
    heat_map = tracer.compute_global_heat_map(prompt="a red heart")
    assert heat_map.compute_word_heat_map("heart").value.shape == (16, 16)


def test_words_are_whole_words(demo: Any, heat_map: daam.GlobalHeatMap) -> None:
    tokens = demo.tokenizer.tokenize("a scat and a cat")
    cat = demo.tokenizer.tokenize("cat")
    # DAAM looks for the word's tokens in a row, which the end of "scat" is, too.
    assert tokens[2 : 2 + len(cat)] == tokens[-len(cat) :] == cat
    columns, _ = daam.compute_token_merge_indices(demo.tokenizer, "a scat and a cat", "CAT")
    assert columns == list(range(len(tokens) + 1 - len(cat), len(tokens) + 1))
    with pytest.raises(ValueError, match="'dog' is not a word of the prompt"):
        heat_map.compute_word_heat_map("dog")
    with pytest.raises(WordError, match="is column 100, and the map has columns 0 to 8"):
        heat_map.compute_word_heat_map("red", word_idx=99)
    with pytest.raises(WordError, match="is column -1"):
        heat_map.compute_word_heat_map("red", offset_idx=-3)
    assert torch.equal(heat_map.compute_word_heat_map("x", word_idx=1).value, heat_map.heat_maps[2])


def test_a_heat_map_needs_tokens_or_a_tokenizer(demo: Any, heat_map: daam.GlobalHeatMap) -> None:
    with pytest.raises(InputError, match="without a tokenizer"):
        daam.GlobalHeatMap(None, PROMPT, heat_map.heat_maps)
    own = daam.GlobalHeatMap(demo.tokenizer, PROMPT, heat_map.heat_maps)
    expected = heat_map.compute_word_heat_map("blue circle").value
    assert torch.equal(own.compute_word_heat_map("blue circle").value, expected)


def test_layers_are_numbered_up_before_down_and_by_number() -> None:
    def site(block: str, attention: int, inner: int) -> str:
        return f"{block}.attentions.{attention}.transformer_blocks.{inner}.attn2"

    sites = [
        site("down_blocks.2", 0, 0),
        "mid_block.attentions.0.transformer_blocks.0.attn2",
        *(site("up_blocks.0", 1, inner) for inner in (10, 9)),
        site("up_blocks.0", 0, 0),
        site("up_blocks.1", 0, 0),
    ]
    layers = locate(sites)
    assert [(layer.index, layer.name) for layer in layers] == [
        (0, "up-attn-0"),
        (1, "up-attn-1"),
        (2, "up-attn-2"),
        (3, "up-attn-0"),
        (4, "down-attn-0"),
    ]
    assert [layer.site for layer in layers] == [*(sites[i] for i in (4, 3, 2, 5, 0))]
    assert [layer.site for layer in locate(sites, low_memory=True)] == [sites[i] for i in (4, 5, 0)]


@dataclass(eq=False)
class Parsed:
    """What spaCy says of a token, as far as it is read."""

    text: str
    idx: int
    dep_: str
    head: Any = field(default=None, repr=False)


def parse(text: str) -> list[Parsed]:
    """``red`` and ``blue`` depend on their circles, by hand."""
    found = [Parsed(word, 0, "det") for word in text.split()]
    for i, token in enumerate(found):
        token.idx = sum(len(other.text) + 1 for other in found[:i])
    relations = ["det", "amod", "ROOT", "cc", "det", "amod", "conj"]
    heads = [2, 2, 2, 2, 6, 6, 2]
    for token, relation, head in zip(found, relations, heads, strict=True):
        token.dep_, token.head = relation, found[head]
    return [*found, Parsed("", len(text), "punct", found[2])]


def test_parsed_tokens_have_maps_of_their_own_occurrence(heat_map: daam.GlobalHeatMap) -> None:
    parsed = list(heat_map.parsed_heat_maps(parse))
    assert [entry.token.text for entry in parsed] == PROMPT.split()
    maps = heat_map.heat_maps
    for place, entry in enumerate(parsed):
        assert torch.equal(entry.word_heat_map.value, maps[place + 1])
    # By its text the word is both circles.
    both = heat_map.compute_word_heat_map("circle").value
    assert torch.equal(both, maps[[3, 7]].mean(dim=0))


def test_pairs_of_words_that_depend_on_each_other(heat_map: daam.GlobalHeatMap) -> None:
    pairs = list(heat_map.dependency_relations(parse))
    assert [(pair.relation, pair.dep_text, pair.head_text) for pair in pairs] == [
        ("det", "a", "circle"),
        ("amod", "red", "circle"),
        ("cc", "and", "circle"),
        ("det", "a", "circle"),
        ("amod", "blue", "circle"),
        ("conj", "circle", "circle"),
    ]
    blue = pairs[4]
    assert torch.equal(blue.dep_heat_map.value, heat_map.heat_maps[6])
    assert torch.equal(blue.head_heat_map.value, heat_map.heat_maps[7])
    assert torch.equal(pairs[1].head_heat_map.value, heat_map.heat_maps[3])


def test_a_parser_is_never_downloaded(heat_map: daam.GlobalHeatMap) -> None:
    for ask in (heat_map.parsed_heat_maps, heat_map.dependency_relations):
        with pytest.raises(InputError, match=r'give nlp=spacy\.load\("en_core_web_md"\)'):
            list(ask())


def test_a_pipeline_without_a_parser_is_refused(heat_map: daam.GlobalHeatMap) -> None:
    """As spacy.blank("en") is: each token is its own head, by the empty relation."""

    def blank(text: str) -> list[Parsed]:
        found = [Parsed(word, text.index(word), "") for word in dict.fromkeys(text.split())]
        for token in found:
            token.head = token
        return found

    with pytest.raises(InputError, match=r"so it has no parser\. Give one that has: spacy\.load"):
        list(heat_map.dependency_relations(blank))
    assert len(list(heat_map.parsed_heat_maps(blank))) == 5, "maps of tokens need none"


def test_an_overlay_on_axes_of_ones_own(heat_map: daam.GlobalHeatMap) -> None:
    figure, image = Figure(), Image.new("L", (48, 32), 255)
    axes = figure.subplots()
    word = heat_map.compute_word_heat_map("red")
    word.plot_overlay(image, ax=axes, color_normalize=False, absolute=True)
    colours, picture = axes.get_images()
    assert colours.get_clim() == (0.0, 1.0) and picture.get_array().shape == (32, 48, 4)
    assert axes.get_title() == "red"
    assert word.value.max() > 0, "the map itself stays as it is"


def test_an_overlay_is_cropped_and_written(heat_map: daam.GlobalHeatMap, tmp_path: Any) -> None:
    image = np.zeros((32, 48, 3), dtype=np.uint8)
    word = heat_map.compute_word_heat_map("red")
    expanded = word.expand_as(image)
    daam.plot_overlay_heat_map(image, expanded, "an earlier one")
    daam.plot_overlay_heat_map(image, expanded, "red", tmp_path / "red.png", crop=4)
    assert len(pyplot.gcf().axes) == 1 and len(pyplot.gcf().axes[0].get_images()) == 2
    assert pyplot.gcf().axes[0].get_images()[0].get_array().shape == (24, 40)
    with Image.open(tmp_path / "red.png") as written:
        assert written.size[0] > 100
    with pytest.raises(InputError, match=r"crop=16 leaves nothing of \(32, 48\)"):
        daam.plot_overlay_heat_map(image, expanded, crop=16)
    with pytest.raises(InputError, match=r"is \(16, 16\), the image \(32, 48\)"):
        daam.plot_overlay_heat_map(image, word.value)
    pyplot.close("all")
    daam.plot_mask_heat_map(image + 255, expanded, threshold=0.5)
    shown = pyplot.gcf().axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(shown[..., 0] > 0, expanded.numpy() > 0.5)
    pyplot.close("all")
    assert word.expand_as(image, plot=True, out_file=tmp_path / "again.png").shape == (32, 48)
    assert (tmp_path / "again.png").exists()
    pyplot.close("all")


def test_overlaps() -> None:
    a = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert daam.compute_iou(a, b) == pytest.approx(1 / 3)
    assert daam.compute_ioa(a, b) == pytest.approx(1 / 2)
    # DAAM compares the first sides only, and multiplies what does not fit.
    wide = torch.ones(2, 4)
    assert daam.compute_ioa(torch.ones(2, 2), wide) == pytest.approx(1.0)


def test_devices() -> None:
    with daam.auto_autocast(dtype=torch.float16):
        assert torch.is_autocast_enabled("cuda") == torch.cuda.is_available()
    device = daam.auto_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    module = torch.nn.Linear(1, 1)
    assert daam.auto_device(module) is module and module.weight.device.type == device.type
