"""What else a run may tell: its negative prompt, its mask, and an image that comes later."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.errors import InputError, NoAttributionError, RegionError, WordError
from diffusers_rdaam.geometry.region import Box, Mask, Polygon

BOX = (10, 20, 50, 60)


@pytest.fixture
def both(make_attribution) -> Attribution:
    negative = make_attribution("a blurry dog <b>", seed=5, image=False)
    return dataclasses.replace(make_attribution(), negative_attribution=negative)


def test_negative_has_words_of_its_own(both):
    assert [word.text for word in both.negative.words][:3] == ["a", "blurry", "dog"]
    assert both.negative.image is both.image and both.negative is both.negative
    wanted = both.negative_attribution["dog"].values
    assert torch.equal(both.negative["dog"].values, wanted)
    with pytest.raises(WordError, match="'cat' is not a word of the prompt 'a blurry dog <b>'"):
        both.negative["cat"]


def test_there_is_no_negative(make_attribution):
    with pytest.raises(NoAttributionError) as caught:
        _ = make_attribution().negative
    assert str(caught.value) == (
        "There is no attribution of a negative prompt. Record with "
        "RDAAMProcessor(keep_negative=True), under guidance; a selection by layer, head or step "
        "has it where those were kept of it too."
    )
    assert make_attribution().region(BOX).negative is None


def test_a_region_has_its_negative_words(both, make_attribution):
    answer = both.region(BOX, ranking="score")
    wanted = both.negative_attribution.region(BOX, ranking="score")
    assert torch.equal(answer.negative.scores, wanted.scores)
    assert answer.negative.ranking == "score"
    assert answer.ranked_by("lift").negative.ranking == "lift"
    assert torch.equal(answer.scores, make_attribution().region(BOX).scores)
    alone, below = str(make_attribution().region(BOX, ranking="score")), str(wanted)
    assert str(answer) == f"{alone}\n\nthe negative prompt:\n{below}"
    parsed = json.loads(json.dumps(answer.to_dict()))
    assert parsed["negative"] == wanted.to_dict()
    assert "negative" not in make_attribution().region(BOX).to_dict()


def test_html_of_a_region_shows_both(both, make_attribution):
    html = both.region(BOX)._repr_html_()
    assert html.count("<img") == 1 and html.count("<table") == 2
    assert "The negative prompt:" in html and "blurry" in html and "<b>" not in html
    assert "negative" not in make_attribution().region(BOX)._repr_html_()


def test_repr_says_what_there_is(both, make_kept):
    assert ", grids 12x8, 6x4, 3x2, 2x1, negative prompt too, 0.01 MB)" in repr(both)
    assert ", kept steps and heads, 0." in repr(make_kept(("steps", "heads"))[0])


MASK = Mask(Box(*BOX).coverage((64, 96)))


def test_mask_of_the_run_is_a_region(make_attribution):
    attribution = dataclasses.replace(make_attribution(), mask=MASK)
    assert attribution.inpaint_mask is MASK
    scores = attribution.region(attribution.inpaint_mask).scores
    torch.testing.assert_close(scores, attribution.region(BOX).scores, rtol=1e-4, atol=1e-6)
    rest = attribution.region(~attribution.inpaint_mask)
    share = float(MASK.weights.mean())
    total = share * scores + (1.0 - share) * rest.scores
    torch.testing.assert_close(total, rest.levels, rtol=1e-4, atol=1e-6)


def test_the_run_had_no_mask(make_attribution):
    with pytest.raises(RegionError) as caught:
        _ = make_attribution().inpaint_mask
    assert str(caught.value) == (
        "This run had no mask, or one without white; only inpainting has one."
    )


@given(
    seed=st.integers(0, 99),
    region=st.sampled_from(
        [BOX, (0, 0, 96, 64), (-5, -5, 9, 200), ((3.0, 4.0), (90.5, 8.0), (20.0, 60.0)), MASK]
    ),
    word=st.sampled_from(["cat", "blue eyes", (0, 12), -1]),
)
def test_inside_is_the_part_of_the_map(make_attribution, seed, region, word):
    attribution = make_attribution(seed=seed)
    heat = attribution[word]
    checked = Polygon(region) if isinstance(region, tuple) and len(region) == 3 else region
    covered = (Box(*checked) if isinstance(checked, tuple) else checked).coverage((64, 96))
    wanted = float((heat.values * covered).sum() / heat.values.sum())
    assert heat.inside(checked) == pytest.approx(wanted, rel=1e-5)
    key = attribution.words[word].text if isinstance(word, int) else word
    assert attribution.inside(checked)[key] == pytest.approx(wanted, rel=1e-4)


def test_inside_and_outside_sum_to_one(make_attribution):
    heat = make_attribution()["cat"]
    assert heat.inside(MASK) + heat.inside(~MASK) == pytest.approx(1.0)
    assert heat.inside((0, 0, 96, 64)) == pytest.approx(1.0)


def test_a_flat_map_has_the_share_of_the_area_and_an_empty_one_nothing():
    assert HeatMap(torch.full((64, 96), 0.25), "fog").inside((0, 0, 48, 32)) == pytest.approx(0.25)
    assert HeatMap(torch.zeros(64, 96), "gone").inside((0, 0, 48, 32)) == 0.0
    with pytest.raises(RegionError, match="lies outside the image"):
        HeatMap(torch.zeros(64, 96), "gone").inside((100, 0, 120, 32))


def test_inside_of_every_word(make_attribution):
    attribution = make_attribution()
    answer = attribution.inside(BOX)
    assert answer.area == pytest.approx(40 * 40 / (64 * 96))
    assert len(answer) == 8 and [word.text for word in answer].count("a") == 1
    shares = [word.inside for word in answer]
    assert shares == sorted(shares, reverse=True)
    for word in answer:
        columns = sorted({c for each in word.occurrences for c in each.columns})
        whole = sum(attribution.column(column).values for column in columns)
        assert word.inside == pytest.approx(HeatMap(whole, "").inside(BOX), rel=1e-4)
    assert json.loads(json.dumps(answer.to_dict())) == {
        "area": answer.area,
        "words": [{"word": word.text, "inside": word.inside} for word in answer],
    }
    lines = str(answer).splitlines()
    assert lines[0] == f"Box {BOX}: how much of each word lies inside"
    assert lines[1].split() == ["word", "inside"] and len(lines) == 11
    assert lines[2].startswith(answer.words[0].text) and f"{shares[0]:.1%}" in lines[2]
    assert lines[-1] == "The region is 26.0% of the image."


def test_inside_html_escapes_and_no_words(make_attribution):
    html = make_attribution("<script> cat").inside(BOX)._repr_html_()
    tags = {"div", "figure", "img", "figcaption", "p", "span"}
    tags |= {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"</?(\w+)", html)) <= tags and "&lt;<span" in html
    assert "The region is 26.0% of the image." in html
    nothing = make_attribution(None).inside(BOX)
    assert str(nothing) == "(no words)" and nothing.words == ()


def test_an_image_that_comes_later(both):
    bare = dataclasses.replace(both, image=None)
    image = Image.new("RGB", (96, 64), (1, 2, 3))
    shown = bare.with_image(image)
    assert shown.image is image and bare.image is None and shown.negative.image is image
    assert np.array_equal(
        np.asarray(shown["cat"].overlay()), np.asarray(bare["cat"].overlay(image))
    )
    assert shown.image_size == (64, 96) and shown.grids == bare.grids


def test_an_image_of_the_same_ratio_sets_the_size(both):
    image = Image.new("L", (192, 128))
    shown = dataclasses.replace(both, image=None).with_image(image)
    assert shown.image_size == shown.negative.image_size == (128, 192)
    assert shown["cat"].size == (128, 192) and shown["cat"].overlay().size == (192, 128)
    scores = shown.region((20, 40, 100, 120)).scores
    torch.testing.assert_close(scores, both.region(BOX).scores, rtol=2e-2, atol=2e-3)


def test_an_image_that_does_not_fit(make_attribution):
    attribution = make_attribution(image=False)
    with pytest.raises(InputError) as caught:
        attribution.with_image(Image.new("RGB", (64, 96)))
    assert str(caught.value) == (
        "The image is 64 pixels wide and 96 high; the run made one of 96 by 64, and the ratio must "
        "be the same. Cut or scale it first."
    )
    masked = dataclasses.replace(attribution, mask=MASK)
    assert masked.with_image(Image.new("RGB", (96, 64))).mask is MASK
    with pytest.raises(InputError) as caught:
        masked.with_image(Image.new("RGB", (192, 128)))
    assert str(caught.value) == (
        "The image is 192 pixels wide and 128 high, the mask of the run 96 by 64. Scale the image "
        "to the mask's size."
    )
