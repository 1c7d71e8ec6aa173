"""Columns merged into words, and what a result says of itself."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from diffusers_rdaam.errors import WordError
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords
from diffusers_rdaam.explain.gradients.input_pixels import InputPixels
from diffusers_rdaam.explain.gradients.reductions import combine, reduce_entries
from diffusers_rdaam.geometry.region import Box, Mask

METHODS = ("grad_x_input", "max_grad", "min_grad", "mean_grad", "integrated_gradients")
TEXT = "a kitten, and a <b>cat"


@pytest.fixture
def words(make_prompt):
    prompt = make_prompt(TEXT)
    values = torch.arange(1.0, len(prompt.tokens) + 1.0)
    image = Image.new("RGB", (96, 64), (200, 30, 30))
    return GradientWords(prompt, Box(8, 8, 40, 40), image, values, "grad_x_input", pooled=2.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_word_is_what_its_entries_give_in_one_row(method):
    generator = torch.Generator().manual_seed(0)
    gradient, value = (torch.randn(3, 16, generator=generator).double() for _ in range(2))
    whole = reduce_entries(method, gradient.flatten()[None], value.flatten()[None])
    parts = reduce_entries(method, gradient, value).tolist()
    assert combine(method, parts) == pytest.approx(float(whole))
    assert combine(method, []) == 0.0


def test_methods_by_hand():
    gradient, value = torch.tensor([[3.0, -4.0]]), torch.tensor([[1.0, 2.0]])
    found = [float(reduce_entries(method, gradient, value)) for method in METHODS]
    assert found == pytest.approx([73.0**0.5, 4.0, 3.0, 3.5, -5.0])


def test_words_are_merged_and_specials_apart(words):
    kitten = words["kitten"]
    columns = words.prompt.find("kitten").columns
    assert len(columns) == 2
    assert kitten == pytest.approx(sum((c + 1.0) ** 2 for c in columns) ** 0.5)
    both = next(word for word in words if word.text == "a")
    assert len(both.occurrences) == 2 and both.score == pytest.approx(words["a"])
    assert set(words.special) == {"start", "end", "padding", "punctuation", "pooled"}
    assert sum(word.share for word in words) == pytest.approx(1.0)
    assert [word.score for word in words] == sorted((w.score for w in words), reverse=True)
    with pytest.raises(WordError, match="'dog' is not a word of the prompt"):
        words["dog"]


def test_a_result_shows_itself(words):
    text = str(words)
    assert ": words ranked by share of the gradients (grad_x_input)\n" in text
    assert "special tokens: start 1" in text and "pooled 2" in text
    page = words._repr_html_()
    assert "&lt;" in page and "<b>" not in page and "data:image/png" in page
    assert json.loads(json.dumps(words.to_dict()))["method"] == "grad_x_input"
    figure = words.plot()
    assert len(figure.axes) == 2 and figure.axes[1].get_xlabel().startswith("share")
    assert words.top(1) == words.words[:1] and len(words) == len(list(words))


def test_input_pixels():
    values = torch.zeros(64, 96)
    values[10:20, 30:60] = 2.0
    values[0, 0] = 1000.0
    mask = torch.zeros(64, 96)
    mask[8:30, 20:70] = 1.0
    pixels = InputPixels(values, "max_grad", Image.new("RGB", (96, 64)), Mask(mask))
    assert float(pixels.normalized.sum()) == pytest.approx(1.0)
    # One pixel does not dim the rest; what is kept can be left out.
    assert float(pixels.saliency()[15, 40]) == 1.0
    assert float(pixels.saliency()[0, 0]) == 1.0
    assert float(pixels.saliency(inside_mask=True)[0, 0]) == 0.0
    assert pixels.heat_map.inside(Box(0, 0, 1, 1)) == pytest.approx(1000 / 1600)
    figure = pixels.plot()
    assert [axes.get_title() for axes in figure.axes] == ["input image", "saliency", "both"]
    assert len(figure.axes[0].lines) == 2
    assert pixels.overlay().size == (96, 64) and "data:image/png" in pixels._repr_html_()
    nothing = InputPixels(torch.zeros(4, 6), "max_grad", Image.new("RGB", (6, 4)))
    assert not nothing.normalized.any() and not nothing.saliency().any()
