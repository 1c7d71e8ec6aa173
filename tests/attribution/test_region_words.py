"""The words of a region: definitions, order, and every way to show them."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.region_words import NO_WORD_LEVELS, RegionWords, WordsInside
from diffusers_rdaam.errors import InputError, PandasExtraError, WordError
from diffusers_rdaam.geometry.region import Box, Mask, Polygon

TEXT = "a cat, a hat"
# Columns: <start> a cat , a hat <end> <pad> <pad>
SCORES = [0.30, 0.05, 0.25, 0.04, 0.01, 0.05, 0.20, 0.06, 0.04]
LEVELS = [0.30, 0.06, 0.10, 0.05, 0.06, 0.025, 0.205, 0.10, 0.10]


@pytest.fixture
def words(make_prompt) -> RegionWords:
    region = Box(10, 20, 30, 40)
    image = Image.new("RGB", (96, 64), (200, 30, 30))
    return RegionWords(
        make_prompt(TEXT), torch.tensor(SCORES), torch.tensor(LEVELS), region, image=image
    )


def test_score_share_and_lift(words):
    table = {word.text: word for word in words}
    assert set(table) == {"a", "cat", "hat"} and len(words) == 3
    assert table["cat"].score == pytest.approx(0.25)
    assert table["a"].score == pytest.approx(0.05 + 0.01)
    assert table["cat"].share == pytest.approx(0.25 / (0.25 + 0.06 + 0.05))
    assert sum(word.share for word in words) == pytest.approx(1.0)
    assert table["cat"].lift == pytest.approx(2.5)
    assert table["a"].lift == pytest.approx(0.06 / 0.12)
    assert [word.start for word in table["a"].occurrences] == [0, 7]


@pytest.mark.parametrize(
    ("ranking", "order"),
    [("lift", ["cat", "hat", "a"]), ("score", ["cat", "a", "hat"]), ("share", ["cat", "a", "hat"])],
)
def test_ranking(words, ranking, order):
    assert words.ranking == "lift"
    other = words.ranked_by(ranking)
    assert other.ranking == ranking
    assert [word.text for word in other.words] == order
    assert [word.text for word in other.top(2)] == order[:2]
    assert [word.text for word in other.top()] == order
    assert list(other) == list(other.words)
    assert torch.equal(other.scores, words.scores) and other.region == words.region


def test_ties_stand_in_the_order_of_the_prompt(make_prompt):
    prompt = make_prompt("b a c")
    flat = torch.full((len(prompt.tokens),), 0.125)
    assert [word.text for word in RegionWords(prompt, flat, flat, Box(0, 0, 1, 1))] == [
        "b", "a", "c",
    ]  # fmt: skip


def test_letter_case_makes_no_other_word(make_prompt):
    prompt = make_prompt("A cat and a CAT")
    flat = torch.full((len(prompt.tokens),), 0.125)
    words = RegionWords(prompt, flat, flat, Box(0, 0, 1, 1), "score")
    assert [(word.text, len(word.occurrences)) for word in words] == [
        ("A", 2), ("cat", 2), ("and", 1),
    ]  # fmt: skip
    assert words["a"] == words.words[0].score == 0.25


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("ranking", ["mass", "", None])
def test_unknown_ranking(words, ranking):
    with pytest.raises(InputError) as caught:
        words.ranked_by(ranking)
    assert str(caught.value) == (
        f"{ranking!r} is not a ranking. Rankings: 'lift', 'score', 'share'."
    )


def test_special_columns_are_apart_and_all_sums_to_one(words):
    assert words.special == pytest.approx(
        {"start": 0.30, "punctuation": 0.04, "end": 0.20, "padding": 0.06 + 0.04}
    )
    assert sum(words.special.values()) + sum(w.score for w in words) == pytest.approx(1.0)


def test_embeddings_without_text_have_only_unknown_columns():
    words = RegionWords(
        Prompt.without_text(4), torch.full((4,), 0.25), torch.full((4,), 0.25), Box(0, 0, 1, 1)
    )
    assert len(words) == 0 and words.top() == ()
    assert words.special == {"unknown": 1.0}
    assert str(words) == "(no words)"
    assert words.to_dict()["words"] == []
    assert "(no text)" in words._repr_html_()
    words.plot().savefig(io.BytesIO())


def test_without_special_tokens_nothing_is_said_of_them(make_prompt):
    whole = make_prompt("a cat")
    tokens = [token for token in whole.tokens if token.kind == "text"]
    prompt = Prompt(
        whole.text, tuple(dataclasses.replace(t, column=i) for i, t in enumerate(tokens))
    )
    scores = torch.tensor([0.25, 0.75])
    words = RegionWords(prompt, scores, scores, Box(0, 0, 1, 1))
    assert not words.special and [word.text for word in words] == ["a", "cat"]
    assert "special" not in str(words) and "special" not in words._repr_html_()


def test_lookup_of_words_phrases_and_spans(words):
    assert words["cat"] == pytest.approx(0.25)
    assert words["CAT"] == words["cat"] == words.score_of(1) == words[(2, 5)]
    assert words[words.prompt.words[1]] == words["cat"]
    assert words["a"] == pytest.approx(0.06)
    assert words.score_of(0) == pytest.approx(0.05)
    assert words["a cat"] == pytest.approx(0.30)
    assert words["cat, a hat"] == pytest.approx(0.25 + 0.04 + 0.01 + 0.05)
    with pytest.raises(WordError, match=r"^'dog' is not a word of the prompt 'a cat, a hat'\."):
        words["dog"]


@pytest.mark.usefixtures("types_unchecked")
def test_a_position_is_what_iteration_gives(words):
    for answer in (words, words.ranked_by("score"), WordsInside(words, 0.25)):
        entries = list(answer)
        assert [answer[i] for i in range(len(answer))] == entries
        assert answer[-1] == entries[-1] and answer[np.int64(0)] is entries[0]
        assert answer[:2] == tuple(entries[:2]) and answer[::-1] == tuple(entries[::-1])
        assert list(reversed(answer)) == entries[::-1]
        assert [answer.index(entry.text.upper()) for entry in answer] == [0, 1, 2]
        assert answer.index(entries[1]) == 1 and entries[1] in answer
        assert "cat, a hat" in answer and (2, 5) in answer and "dog" not in answer
        assert 0 not in answer and None not in answer
        for position in (3, -4, np.int64(99)):
            with pytest.raises(InputError, match=r"^There are 3 words, best first; -?\d+ is not"):
                answer[position]
        for key in (True, None, 1.5):
            with pytest.raises(WordError, match="is not a word"):
                answer[key]
        with pytest.raises(WordError, match=r"^'dog' is not one of the ranked words: cat"):
            answer.index("dog")


def test_what_is_inside_agrees_with_itself(words):
    inside = WordsInside(words, 0.25)
    for entry in inside:
        assert inside[entry.text] == entry.inside


def test_one_line_shows_the_best_words(words, make_prompt):
    assert repr(words) == "RegionWords(box (10, 20, 30, 40), by lift: cat 2.5, hat 2, a 0.5)"
    assert repr(WordsInside(words, 0.25)) == (
        "WordsInside(25.0% of the image, by inside: cat 0.625, hat 0.5, a 0.125)"
    )
    prompt = make_prompt("one two six ten red big old new")
    flat = torch.full((len(prompt.tokens),), 0.1)
    shown = repr(RegionWords(prompt, flat, flat, Mask(torch.eye(4)), "score"))
    assert shown.startswith("RegionWords(mask, by score: one 0.1, ")
    assert shown.endswith(", and 2 more)")
    empty = RegionWords(Prompt.without_text(2), torch.ones(2), torch.ones(2), Box(0, 0, 1, 1))
    assert repr(empty) == "RegionWords(box (0, 0, 1, 1), by lift: no words)"
    assert bool(empty)


@pytest.mark.usefixtures("types_unchecked")
def test_a_misspelt_ranking_names_the_nearest(words):
    with pytest.raises(InputError, match=r"^'LIFT' is not a ranking\. Did you mean 'lift'\?"):
        words.ranked_by("LIFT")


def test_a_word_that_is_nowhere_has_no_lift(make_prompt):
    prompt = make_prompt("cat")
    zero = torch.zeros(len(prompt.tokens))
    (word,) = RegionWords(prompt, zero, zero, Box(0, 0, 1, 1))
    assert (word.score, word.share, word.lift) == (0.0, 0.0, 0.0)


def test_table(words):
    assert str(words).splitlines() == [
        "Box (10, 20, 30, 40): words ranked by lift",
        "word  lift   score  share",
        "cat   2.50  0.2500  69.4%  ████████████████████████",
        "hat   2.00  0.0500  13.9%  ████████████████",
        "a     0.50  0.0600  16.7%",
        "special tokens: start 0.3000, punctuation 0.0400, end 0.2000, padding 0.1000",
    ]
    by_score = str(words.ranked_by("score")).splitlines()
    assert by_score[0] == "Box (10, 20, 30, 40): words ranked by score"
    assert by_score[3] == "a     0.50  0.0600  16.7%  ██████"


SIZE = (64, 96)
AREA = 20 * 20 / (64 * 96)


def contrasting(words: RegionWords, contrast: float, region: object = None) -> RegionWords:
    """Words whose attention inside is that many times the attention outside, each word alike."""
    levels = torch.full((len(SCORES),), 0.1)
    area = AREA if region is None else float(region.coverage(SIZE).mean())
    inside = contrast / (1.0 - area + area * contrast)
    return dataclasses.replace(
        words,
        scores=levels * inside,
        levels=levels,
        image_size=SIZE,
        no_word_level=1.02,
        region=words.region if region is None else region,
    )


def test_a_table_says_where_no_word_made_the_region(words):
    for contrast in (0.5, 0.97, 1.01, 1.03, 3.0):
        region = contrasting(words, contrast)
        assert region.contrast == pytest.approx(contrast, rel=1e-5)
        assert region.no_word == (contrast < 1.02)
        first = str(region).splitlines()[0]
        if contrast < 1.02:
            assert first == (
                f"no word made this region: the attention to words is {contrast:.2f} times that "
                "of the rest of the image (a region of a word: 1.02 or more)"
            )
        else:
            assert first == "Box (10, 20, 30, 40): words ranked by lift"
        assert ("no word made this" in region._repr_html_()) == (contrast < 1.02)
        assert region.to_dict()["no_word"] == {
            "found": contrast < 1.02,
            "contrast": region.contrast,
            "level": 1.02,
        }


@pytest.mark.parametrize(
    "region",
    [
        Polygon(((1.0, 2.0), (60.0, 4.0), (5.0, 60.0))),
        Mask(torch.ones(64, 96).triu()),
        Box(-50, -50, 90, 60),
        Box(0.5, 0.5, 1.25, 1.25),
    ],
)
def test_the_contrast_is_of_any_region(words, region):
    assert contrasting(words, 1.4, region).contrast == pytest.approx(1.4, rel=1e-4)


def test_what_has_no_outside_or_no_word_has_no_contrast(words):
    whole = contrasting(words, 1.0, Box(0, 0, 96, 64))
    assert whole.contrast is None and not whole.no_word and "no word made" not in str(whole)
    assert whole.to_dict()["no_word"]["contrast"] is None
    assert words.contrast is None and not words.no_word
    nameless = RegionWords(
        Prompt.without_text(4),
        torch.full((4,), 0.25),
        torch.full((4,), 0.25),
        Box(0, 0, 1, 1),
        image_size=SIZE,
    )
    assert nameless.contrast is None and not nameless.no_word
    # A softmax over words alone, as over concepts.
    alone = torch.zeros(len(SCORES))
    alone[1:3], alone[4:6] = 0.25, 0.25
    only = dataclasses.replace(words, scores=alone, levels=alone, image_size=SIZE)
    assert only.contrast is None and not only.no_word
    # All of the attention inside: more than any number, which JSON does not have.
    everything = dataclasses.replace(
        contrasting(words, 2.0), scores=torch.full((len(SCORES),), 0.1 / AREA)
    )
    assert everything.contrast > 1e6 and not everything.no_word
    json.dumps(everything.to_dict(), allow_nan=False)


def test_the_contrast_of_an_attribution(make_attribution):
    """Against the words' maps at every pixel: their mean inside over their mean outside."""
    attribution = make_attribution()
    columns = sorted({column for word in attribution.words for column in word.columns})
    values = attribution.pixels(columns).double()
    for box in ((3, 5, 40, 33), (0, 0, 96, 60)):
        inside = Box(*box).coverage((64, 96)) > 0
        wanted = float(values[inside].mean() / values[~inside].mean())
        answer = attribution.region(box)
        assert answer.contrast == pytest.approx(wanted, rel=1e-4)
        assert answer.ranked_by("score").contrast == answer.contrast
        assert answer.no_word_level == NO_WORD_LEVELS["cross"]
    joint = dataclasses.replace(attribution, run={**attribution.run, "attention": "joint"})
    assert joint.region((3, 5, 40, 33)).no_word_level == NO_WORD_LEVELS["joint"]
    # A box of twice an object's sides is a region of words on both kinds of models.
    assert NO_WORD_LEVELS["joint"] < NO_WORD_LEVELS["cross"]


def test_bars_of_lift_begin_at_one(words):
    bars = words.plot().axes[-1].patches
    assert [bar.get_x() for bar in bars] == [1.0, 1.0, 1.0]
    assert [bar.get_width() for bar in bars] == pytest.approx([1.5, 1.0, -0.5])
    shares = words.ranked_by("share").plot().axes[-1].patches
    assert [bar.get_x() for bar in shares] == [0.0, 0.0, 0.0]


def test_to_pandas(words):
    if find_spec("pandas") is None:
        with pytest.raises(PandasExtraError, match=r'pip install "diffusers_rdaam\[pandas\]"$'):
            words.to_pandas()
        return
    table = words.to_pandas()
    assert list(table.columns) == ["word", "lift", "score", "share"]
    assert table["word"].tolist() == ["cat", "hat", "a"]
    assert table["score"].tolist() == [word.score for word in words]


def test_to_dict_is_json(words):
    parsed = json.loads(json.dumps(words.to_dict()))
    assert parsed == words.to_dict()
    assert parsed["ranking"] == "lift"
    first = parsed["words"][0]
    assert first.pop("word") == "cat"
    assert first == pytest.approx({"score": 0.25, "share": 0.25 / 0.36, "lift": 2.5}, rel=1e-5)
    assert set(parsed["special"]) == {"start", "punctuation", "end", "padding"}


def test_html_marks_every_occurrence_and_shows_the_region(words):
    html = words._repr_html_()
    # The fifth is the bar of the scale.
    assert html.count("<span") == 5 and html.count("linear-gradient") == 1
    assert html.count("data:image/png;base64,") == 1
    assert re.findall(r"<td>(\w+)</td>", html) == ["cat", "hat", "a"]
    assert re.sub(r"<[^>]*>", "", html).count(TEXT) == 1


def test_html_escapes_a_prompt_from_anybody(make_prompt):
    text = "<script>alert(1)</script> & \"x\" onload='y'"
    prompt = make_prompt(text)
    flat = torch.full((len(prompt.tokens),), 1.0 / len(prompt.tokens))
    html = RegionWords(prompt, flat, flat, Box(0, 0, 1, 1))._repr_html_()
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags <= {"div", "p", "span", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;<span" in html and ">script</span>&gt;" in html and "&amp;" in html


@pytest.mark.parametrize(
    "region",
    [
        Box(10, 20, 30, 40),
        Box(-50, -50, 10**12, 30),
        Polygon(((1.0, 2.0), (60.0, 4.0), (5.0, 60.0))),
        Mask(torch.eye(64, 96)),
    ],
)
@pytest.mark.parametrize("image", [True, False])
def test_plot_and_html_of_every_region(words, region, image):
    from matplotlib.figure import Figure

    shown = RegionWords(
        words.prompt, words.scores, words.levels, region, "score", words.image if image else None
    )
    figure = shown.plot()
    assert isinstance(figure, Figure) and len(figure.axes) == 1 + image
    assert figure.axes[-1].get_xlabel() == "score"
    labels = [label.get_text() for label in figure.axes[-1].get_yticklabels()]
    assert labels == ["cat", "a", "hat"]
    figure.savefig(io.BytesIO())
    assert ("<img" in shown._repr_html_()) == image


def test_a_figure_says_that_no_word_made_the_region(words):
    region = contrasting(words, 0.9)
    assert region.plot().get_suptitle().splitlines() == [
        "no word made this region: the attention to words is 0.90 times that of the rest of the "
        "image (a region of a word: 1.02 or more)",
        "Box (10, 20, 30, 40): words ranked by lift",
    ]
    low, high = region.plot().axes[-1].get_xlim()
    assert low < 0.91 and high > 1.0


def test_no_bar_is_a_whole_one_where_every_lift_is_low(make_attribution):
    words = make_attribution(seed=3).region((2, 2, 5, 6))
    highest = max(word.lift for word in words)
    start, stop = words._scale()
    assert (start, stop) == (1.0, max(highest, 1.25))
    flat = dataclasses.replace(words, scores=words.levels * 1.05)
    assert flat._scale() == (1.0, 1.25)
    assert max(flat._strengths()) == pytest.approx(0.2, abs=1e-5)
    assert "1.25" in flat._repr_html_()
