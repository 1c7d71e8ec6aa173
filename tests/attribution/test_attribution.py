"""Both questions, from one object: where is a word, and what made a region."""

from __future__ import annotations

import io
import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import (
    InputError,
    NoAttributionError,
    RegionError,
    RepeatedWordWarning,
    WordError,
)
from diffusers_rdaam.geometry.region import Box, Mask, Polygon

# Columns: 0 <start>, 1 a, 2 cat, 3-4 with, 5-6 blue, 7-8 eyes, 9 comma, 10 on, 11 a, 12 red,
# 13 mat, 14 <end>, 15-16 <pad>
TEXT = "a cat with blue eyes, on a red mat"


@pytest.fixture(scope="module")
def attribution(make_attribution) -> Attribution:
    return make_attribution(TEXT)


def by_definition(attribution: Attribution, columns: list[int]) -> torch.Tensor:
    """Every grid enlarged by torch and weighed by its number of additions."""
    total = torch.zeros(attribution.image_size)
    for grid in attribution.grids:
        maps = grid.maps[columns].sum(dim=0)
        enlarged = F.interpolate(
            maps[None, None], size=attribution.image_size, mode="bicubic", align_corners=False
        )
        total += grid.additions * enlarged[0, 0]
    return total / sum(grid.additions for grid in attribution.grids)


@pytest.mark.parametrize(
    ("query", "text", "columns"),
    [
        ("cat", "cat", (2,)),
        ("BLUE eyes", "blue eyes", (5, 6, 7, 8)),
        ("eyes, on", "eyes, on", (7, 8, 9, 10)),
        (1, "cat", (2,)),
        (-1, "mat", (13,)),
        ((2, 5), "cat", (2,)),
    ],
)
def test_word(attribution, query, text, columns):
    heat = attribution.word(query)
    assert (heat.text, heat.columns) == (text, columns)
    assert heat.size == (64, 96) and heat.image is attribution.image
    assert heat.spans == ((TEXT.index(text), TEXT.index(text) + len(text)),)
    torch.testing.assert_close(heat.values, by_definition(attribution, list(columns)))
    assert torch.equal(attribution[query].values, heat.values)
    assert torch.equal(attribution.match(attribution.prompt.find(query)).values, heat.values)


def test_word_object(attribution):
    assert attribution.words[1].text == "cat"
    assert torch.equal(attribution[attribution.words[1]].values, attribution["cat"].values)


def test_a_repeated_word_is_added_with_a_warning(attribution):
    with pytest.warns(RepeatedWordWarning) as caught:
        both = attribution.word("a")
    assert [str(warning.message) for warning in caught] == [
        "'a' occurs twice in the prompt (characters 0-1 and 25-26); their maps were added. Pass "
        "occurrence=0 for the first alone."
    ]
    assert both.columns == (1, 11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (attribution.word("a", occurrence=i) for i in (0, 1))
    assert (first.spans, second.spans) == (((0, 1),), ((25, 26),))
    torch.testing.assert_close(both.values, first.values + second.values)


def test_word_errors_are_those_of_the_prompt(attribution):
    with pytest.raises(WordError, match=r"^'cats' is not a word of the prompt .* Did you mean 'ca"):
        attribution.word("cats")
    with pytest.raises(WordError, match="'cat' occurs once in the prompt"):
        attribution.word("cat", occurrence=1)
    with pytest.raises(WordError, match="is not a word of the prompt"):
        attribution["dog"]


def test_column(attribution):
    start = attribution.column(0)
    assert (start.text, start.columns, start.spans) == ("<start>", (0,), ())
    torch.testing.assert_close(start.values, by_definition(attribution, [0]))
    assert attribution.column(-1).columns == (16,)
    assert attribution.column(2).spans == ((2, 5),)
    assert torch.equal(attribution.column(2).values, attribution["cat"].values)


@pytest.mark.parametrize("index", [17, -18, 99])
def test_no_such_column(attribution, index):
    with pytest.raises(InputError) as caught:
        attribution.column(index)
    assert str(caught.value) == f"There are 17 columns; {index} is not the index of one."


@pytest.mark.parametrize(
    "region",
    [
        (10, 20, 30, 40),
        [10.0, 20.0, 30.0, 40.0],
        Box(10, 20, 30, 40).edges(),
        np.asarray(Box(10, 20, 30, 40).edges()),
        Box(10, 20, 30, 40).coverage((64, 96)),
        Box(10, 20, 30, 40).coverage((64, 96)).numpy(),
        Polygon(tuple(Box(10, 20, 30, 40).edges())),
        Mask(Box(10, 20, 30, 40).coverage((64, 96))),
    ],
)
@pytest.mark.usefixtures("types_unchecked")
def test_region_in_every_form(attribution, region):
    words = attribution.region(region)
    wanted = torch.stack([by_definition(attribution, [i])[20:40, 10:30].mean() for i in range(17)])
    torch.testing.assert_close(words.scores, wanted, rtol=1e-4, atol=1e-6)
    levels = torch.stack([by_definition(attribution, [i]).mean() for i in range(17)])
    torch.testing.assert_close(words.levels, levels, rtol=1e-4, atol=1e-6)
    assert words.image is attribution.image and words.ranking == "lift"


def test_region_beyond_the_image_is_cut(attribution):
    cut, whole = attribution.region((80, 50, 96, 64)), attribution.region((80, 50, 500, 500))
    assert torch.equal(cut.scores, whole.scores)


def test_the_whole_image_lifts_nothing(attribution):
    for word in attribution.region((0, 0, 96, 64)):
        assert word.lift == pytest.approx(1.0)


def test_region_errors(attribution):
    with pytest.raises(RegionError, match=r"^The box \(96, 0, 99, 5\) lies outside the image"):
        attribution.region((96, 0, 99, 5))
    with pytest.raises(RegionError, match="is not a region"):
        attribution.region("cat")


def test_regions_and_ranking(attribution):
    boxes = [(0, 0, 10, 10), (50, 30, 70, 60)]
    several = attribution.regions(iter(boxes), ranking="score")
    assert [words.region for words in several] == [Box(*box) for box in boxes]
    for box, words in zip(boxes, several, strict=True):
        assert words.ranking == "score"
        assert torch.equal(words.scores, attribution.region(box).scores)
        assert [w.score for w in words] == sorted((w.score for w in words), reverse=True)


def test_repr_is_one_line(make_attribution):
    attribution = make_attribution(TEXT)
    assert attribution.nbytes == 17 * 4 * (96 + 24 + 6 + 2)
    first = ", ".join(
        f"{word.text} {attribution[word.index].mass((0, 0, 96, 64)):.3g}"
        for word in attribution.words[:4]
    )
    assert repr(attribution) == (
        f"Attribution('{TEXT}', 9 words ({first}, …), image 96x64, grids 12x8, 6x4, 3x2, 2x1, "
        "0.01 MB)"
    )
    assert repr(make_attribution(None)).startswith("Attribution(no text, 0 words, image 96x64,")
    assert "\n" not in repr(make_attribution("a\ncat\r\nhat"))


@pytest.mark.parametrize("image", [True, False])
def test_html_escapes_a_prompt_from_anybody(make_attribution, image):
    attribution = make_attribution("<script>alert(1)</script> & \"x\" onload='y'", image=image)
    html = attribution._repr_html_()
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags == {"div", "p", "span", "iframe"} | (
        {"figure", "img", "figcaption"} if image else set()
    )
    for attributes in re.findall(r"<img ([^>]*)>", html):
        assert re.fullmatch(r'alt="[^"]*" src="data:image/png;base64,[^"]*"', attributes)


def test_html_without_text(make_attribution):
    assert "(no text)" in make_attribution(None)._repr_html_()


@pytest.mark.parametrize("image", [True, False])
def test_plot_has_a_panel_for_the_image_and_every_word(make_attribution, image):
    from matplotlib.figure import Figure

    attribution = make_attribution("a cat costs $5 or $\\frac{ $a$", image=image)
    figure = attribution.plot()
    assert isinstance(figure, Figure)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert [title for title in titles if title] == ["a", "cat", "costs", "5", "or", "frac"]
    assert titles.count("") == image
    assert figure.get_suptitle() == "a cat costs $5 or $\\frac{ $a$"
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("text", [None, "", "..."])
def test_plot_without_words(make_attribution, text):
    make_attribution(text, image=False).plot().savefig(io.BytesIO())


def test_grids_and_tokens_must_match(attribution):
    with pytest.raises(InputError, match=r"^An attribution needs the maps of at least one grid\.$"):
        Attribution(attribution.prompt, (), (64, 96))
    with pytest.raises(
        InputError,
        match=r"^The maps have 17 columns, the prompt 3 tokens; they must be the same\.$",
    ):
        Attribution(Prompt.without_text(3), attribution.grids, (64, 96))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(("shape", "additions"), [((7, 2), 1), ((7, 2, 3), 0), ((7, 2, 3), -4)])
def test_bad_grid(shape, additions):
    with pytest.raises(InputError) as caught:
        Grid(torch.zeros(shape), additions)
    assert str(caught.value) == (
        "A grid has maps (tokens, height, width) and at least one addition; got shape "
        f"{shape} and {additions}."
    )


def test_asking_leaves_the_maps_as_they_are(make_attribution):
    attribution = make_attribution(TEXT)
    before = [grid.maps.clone() for grid in attribution.grids]
    attribution.region((0, 0, 50, 50)).top()
    attribution.word("cat").values.fill_(9.0)
    assert all(
        torch.equal(grid.maps, maps) for grid, maps in zip(attribution.grids, before, strict=True)
    )


def test_a_text_that_is_not_in_the_vocabulary(make_attribution):
    plain = make_attribution()
    with pytest.raises(NoAttributionError, match=r"This run was given no other texts\. Name"):
        _ = plain.vocabulary["a hat"]
    known = replace(plain, vocabulary={"a hat": make_attribution("a hat")})
    assert known.vocabulary["a hat"].word("hat").text == "hat"
    assert "a dog" not in known.vocabulary and known.vocabulary.get("a dog") is None
    with pytest.raises(InputError) as error:
        _ = known.vocabulary["a dog"]
    assert str(error.value) == (
        "'a dog' is not in the vocabulary of this run. Texts: 'a hat'. Ask for a word of one with "
        "attribution.vocabulary[text].word(word)."
    )


def test_iteration_gives_the_heat_map_of_each_word(attribution, make_attribution):
    maps = list(attribution)
    assert [heat.text for heat in maps] == [word.text for word in attribution.words]
    assert len(attribution) == len(maps) == 9
    assert torch.equal(maps[7].values, attribution[7].values)
    assert "red" in attribution and "blue eyes" in attribution and (2, 5) in attribution
    assert "dog" not in attribution and None not in attribution and 3 not in attribution
    empty = make_attribution(None)
    assert len(empty) == 0 and list(empty) == [] and "red" not in empty and bool(empty)


def test_a_mask_of_0_and_1_is_one_region_to_every_question(attribution):
    mask = np.zeros((64, 96), np.uint8)
    mask[10:30, 20:50] = 1
    for given in (Image.fromarray(mask), mask * 255, mask[None].astype(bool), mask[..., None]):
        assert attribution.region(given)["red"] == attribution.region(mask)["red"]
        assert attribution.inside(given)["red"] == attribution.inside(mask)["red"]
        assert attribution["red"].mass(given) == attribution["red"].mass(mask)
        assert attribution["red"].inside(given) == attribution["red"].inside(mask)
    assert attribution.inside(mask).area == pytest.approx(20 * 30 / (64 * 96))
    assert attribution.inside((20, 10, 50, 30)).area == attribution.inside(mask).area


def test_a_normalized_box_is_shown_in_pixels_by_every_question(attribution):
    box = (0.0, 0.25, 0.5, 1.0)
    heat_map = attribution["red"]
    for ask in (attribution.region, attribution.inside, heat_map.mass, heat_map.inside):
        with pytest.raises(RegionError, match=r"looks normalized: .*: \(0, 16, 48, 64\)\.$"):
            ask(box)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "regions", [(1, 2, 3, 4), Box(1, 2, 3, 4), np.array([1, 2, 3, 4]), 7, "red", Mask(torch.eye(4))]
)
def test_one_region_given_to_the_question_for_several(attribution, regions):
    with pytest.raises(RegionError, match=r"^regions\(\) takes several regions; .* ask region\(\)"):
        attribution.regions(regions)


def test_boxes_of_a_detector_are_answered_one_by_one(attribution):
    boxes = torch.tensor([[10.5, 4.25, 30.0, 40.75], [0.0, 0.0, 96.0, 64.0]])
    first, second = attribution.regions(boxes)
    assert first.region == Box(10.5, 4.25, 30, 40.75)
    assert second["red"] == attribution.region((0, 0, 96, 64))["red"]
    with pytest.raises(RegionError, match=r"^These are 2 boxes, .* attribution\.regions\("):
        attribution.region(boxes)


@pytest.mark.usefixtures("types_unchecked")
def test_what_is_no_column_index_is_said(attribution):
    assert attribution.column(np.int64(2)).text == attribution.column(2).text
    with pytest.raises(InputError, match=r"^'red' is not the index .* attribution\['red'\]\.$"):
        attribution.column("red")
    with pytest.raises(InputError, match=r"^1\.0 is not the index of a column"):
        attribution.column(1.0)


def test_an_image_is_taken_from_arrays_and_files(attribution, tmp_path):
    pixels = np.asarray(attribution.image)
    attribution.image.save(tmp_path / "x.png")
    for given in (pixels, tmp_path / "x.png", str(tmp_path / "x.png"), pixels / 255.0,
                  torch.from_numpy(pixels.copy()).permute(2, 0, 1)):  # fmt: skip
        assert np.array_equal(np.asarray(attribution.with_image(given).image), pixels)
        assert attribution["red"].overlay(given) == attribution["red"].overlay()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("missing.png", r"^missing\.png cannot be read as an image: .* Give a PIL image, the path"),
        (7, r"^A int is not an image\. Give a PIL image"),
        (
            np.zeros((2, 64, 96, 3), np.uint8),
            r"^An array of shape \(2, 64, 96, 3\) is not an image",
        ),
        (np.zeros((64, 96), np.int32), r"^An array of int32 is an image where"),
        (np.full((64, 96, 3), np.nan), r"^An array of float64 is an image where"),
        (torch.zeros(3, 64, 96, device="meta"), r"holds no numbers\. Give a PIL image"),
    ],
)
def test_what_is_no_image_is_said(attribution, value, text):
    for call in (attribution.with_image, attribution["red"].overlay):
        with pytest.raises(InputError, match=text):
            call(value)


@pytest.mark.usefixtures("types_unchecked")
def test_numbers_of_a_heat_map_that_are_none(attribution):
    heat_map = attribution["red"]
    for size in (64, (64,), (64.5, 96), "64x96", (0, 96), None):
        with pytest.raises(InputError, match=r"^A size is \(height, width\) of at least 1 pixel"):
            heat_map.resize(size)
    for threshold in ("half", float("nan"), 1.0, True):
        with pytest.raises(InputError, match=r"^A threshold lies in \[0, 1\)"):
            heat_map.mask(threshold)
    for opacity in ("half", float("nan"), 2):
        with pytest.raises(InputError, match=r"^An opacity lies in \[0, 1\]"):
            heat_map.overlay(opacity=opacity)
    assert torch.equal(heat_map.mask(np.float32(0.5)), heat_map.mask(torch.tensor(0.5)))


def test_values_changed_in_place_are_not_answered_from_the_attribution(make_attribution):
    heat_map = make_attribution(TEXT)["red"]
    before = heat_map.mass((0, 0, 50, 50))
    heat_map.values.mul_(2.0)
    assert heat_map.mass((0, 0, 50, 50)) == pytest.approx(2 * before)


def test_to_dict_is_json(make_attribution):
    attribution = make_attribution(TEXT)
    found = attribution.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["prompt"] == TEXT and found["image_size"] == [64, 96]
    assert [word["word"] for word in found["words"]] == [word.text for word in attribution.words]
    for word, heat in zip(found["words"], attribution, strict=True):
        assert word["span"] == list(heat.spans[0])
        assert word["score"] == pytest.approx(heat.mass((0, 0, 96, 64)))
    total = sum(word["score"] for word in found["words"]) + sum(found["special"].values())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_several_words_are_drawn_with_one_scale(make_attribution):
    attribution = make_attribution()
    strip = attribution.overlay(["cat", "blue eyes"])
    low = min(float(attribution[word].values.min()) for word in ("cat", "blue eyes"))
    high = max(float(attribution[word].values.max()) for word in ("cat", "blue eyes"))
    # The pictures are those of the words, each with the limits of both.
    cat, eyes = (attribution[w].overlay(vmin=low, vmax=high) for w in ("cat", "blue eyes"))
    assert strip.crop((6, 24, 102, 88)).tobytes() == cat.tobytes()
    assert strip.crop((108, 24, 204, 88)).tobytes() == eyes.tobytes()
    assert attribution.overlay(["cat"], alpha=0.2).tobytes() != strip.tobytes()
    assert attribution.overlay(columns=1).height > 6 * 64
    for options, text in (
        ({"words": "cat"}, r"^words= takes several words; give a list: \['cat'\]\.$"),
        ({"words": []}, r"^There are no words to draw"),
        ({"vmin": 1.0, "vmax": 0.5}, r"^vmin= lies below vmax=.* the maps have "),
        ({"opacity": 2.0}, r"^An opacity lies in \[0, 1\]; got 2"),
    ):
        with pytest.raises(InputError, match=text):
            attribution.overlay(**options)
    with pytest.raises(WordError):
        attribution.overlay(["dog"])
    with pytest.raises(InputError, match=r"^There is no image to lay the heat maps over"):
        make_attribution(image=False).overlay()


def test_words_are_chosen_for_the_figure(make_attribution):
    figure = make_attribution().plot(["cat", "blue eyes"], shared_scale=True)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["", "cat", "blue eyes"]
