"""compare: words aligned, differences, and their intervals over seeds."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest
import torch
from scipy import stats

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.comparison import aligned, compare
from diffusers_rdaam.attribution.confidence import difference_interval, mean_interval, quantile
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.errors import InputError, WordError

BOX = (10, 10, 60, 50)
CAT, DOG = "a cat with blue eyes, on a red mat", "a dog with blue eyes, on a big red rug"


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("a cat sat", "a dog sat", [("a", "a"), ("cat", "dog"), ("sat", "sat")]),
        ("A cat", "a Cat", [("A", "a"), ("cat", "Cat")]),
        ("a cat", "a big cat", [("a", "a"), (None, "big"), ("cat", "cat")]),
        ("red cat blue dog", "blue cat red dog", [(w, w) for w in ("red", "cat", "blue", "dog")]),
        ("one", "two three", [("one", None), (None, "two"), (None, "three")]),
        ("a cat and a cat", "a cat", [("a", "a"), ("cat", "cat"), ("and", None)]),
    ],
)
def test_words_are_aligned(make_prompt, first, second, wanted):
    pairs = aligned(make_prompt(first), make_prompt(second))
    assert pairs == wanted


def test_every_word_stands_in_one_pair(make_prompt):
    first, second = "a red cat near the blue old house", "the blue dog near a small red tree now"
    pairs = aligned(make_prompt(first), make_prompt(second))
    assert sorted(one for one, _ in pairs if one) == sorted(first.split())
    assert sorted(two for _, two in pairs if two) == sorted(second.split())
    assert all(one == two for one, two in pairs if one in second.split() and one)


def test_two_prompts(make_attribution):
    cat, dog = make_attribution(CAT), make_attribution(DOG, seed=1)
    found = compare(cat, dog, region=BOX, ranking="score", names=("cat", "dog"))
    assert [word.text for word in found] == (
        ["a", "cat / dog", "with", "blue", "eyes", "on", "- / big", "red", "mat / rug"]
    )
    entry = found["dog"]
    assert found["CAT"] is entry and found[1] is entry
    assert entry.difference == pytest.approx(dog.region(BOX)["dog"] - cat.region(BOX)["cat"])
    assert entry.difference_interval is None and entry.differs is None
    assert found["big"].means[0] is None and found["big"].difference is None
    wanted = dog.word("dog").values - cat.word("cat").values
    assert torch.allclose(found.difference_map("cat"), wanted, atol=1e-7)
    with pytest.raises(WordError, match="'- / big' has no counterpart in the prompt of cat"):
        found.difference_map("big")
    with pytest.raises(
        WordError, match=r"'horse' is not a word of either prompt\. Words: a, cat / dog, with"
    ):
        _ = found["horse"]


def test_without_a_region_it_is_the_mean_over_the_image(make_attribution):
    cat, dog = make_attribution(CAT), make_attribution(DOG, seed=1)
    entry = compare(cat, dog)["blue"]
    assert entry.means[0] == pytest.approx(float(cat.word("blue").values.mean()), rel=1e-4)
    assert entry.means[1] == pytest.approx(float(dog.word("blue").values.mean()), rel=1e-4)


def _seeds(make_attribution, text: str, seeds: list[int | None], shift: int = 0) -> list:
    return [
        dataclasses.replace(
            made := make_attribution(text, seed=(seed or 0) + shift), run={**made.run, "seed": seed}
        )
        for seed in seeds
    ]


def test_seeds_in_common_are_pairs(make_attribution):
    first = _seeds(make_attribution, CAT, [1, 2, 3, 4])
    second = _seeds(make_attribution, CAT, [1, 2, 3, 4], shift=50)
    entry = compare(first, second, region=BOX)["cat"]
    lifts = [[run.region(BOX).words for run in side] for side in (first, second)]
    one, two = (
        [next(word.lift for word in words if word.text == "cat") for words in side]
        for side in lifts
    )
    test = stats.ttest_rel(two, one).confidence_interval()
    assert entry.paired
    assert entry.difference_interval == pytest.approx((test.low, test.high), rel=2e-3)
    assert entry.differs == (not test.low <= 0.0 <= test.high)
    low, high = stats.t.interval(0.95, 3, loc=sum(one) / 4, scale=stats.sem(one))
    assert entry.intervals[0] == pytest.approx((low, high), rel=2e-3)


def test_other_seeds_are_independent(make_attribution):
    first = _seeds(make_attribution, CAT, [1, 2, 3])
    second = _seeds(make_attribution, CAT, [5, 6, 7, 8, 9])
    entry = compare(first, second)["cat"]
    assert not entry.paired
    one, two = ([run.levels[list(run.prompt.find("cat").columns)].sum() for run in side]
                for side in (first, second))  # fmt: skip
    wanted = difference_interval([float(v) for v in one], [float(v) for v in two])
    assert entry.difference_interval == pytest.approx(wanted)
    unknown = _seeds(make_attribution, CAT, [None, None])
    assert not compare(unknown, unknown)["cat"].paired


def test_maps_are_means_over_the_runs(make_attribution):
    first, second = _seeds(make_attribution, CAT, [1, 2]), make_attribution(CAT, seed=7)
    found = compare(first, second)
    wanted = Attribution.mean(first).word("red").values
    assert torch.allclose(found.maps("red")[0], wanted, atol=1e-6)
    difference = second.word("red").values - wanted
    assert torch.allclose(found.difference_map("red"), difference, atol=1e-6)


def test_it_shows_itself(make_attribution):
    first = _seeds(make_attribution, CAT, [1, 2, 3])
    found = compare(first, make_attribution(DOG, seed=1), region=BOX, names=("cats", "a $dog"))
    lines = str(found).splitlines()
    assert lines[0] == f"Box {BOX}: lift of cats (3 runs), a $dog (1 run)"
    assert lines[1].split() == ["word", "cats", "a", "$dog", "difference"]
    assert "95 %" in str(compare(first, _seeds(make_attribution, CAT, [8, 9])))
    assert lines[3].startswith("cat / dog")
    assert json.loads(json.dumps(found.to_dict()))["words"][0]["first"] == "a"
    assert "<table>" in found._repr_html_() and "AttributionComparison(Box" in repr(found)


def test_a_figure_of_both_sides(make_attribution):
    found = compare(make_attribution(CAT), make_attribution(DOG, seed=1))
    figure = found.plot(["cat", "big"])
    titles = [axes.get_title() for axes in figure.axes]
    assert "cat / dog\nfirst" in titles and "- / big\nfirst: no such word" in titles
    pictures = [axes for axes in figure.axes if axes.get_title() == "difference"]
    low, high = pictures[0].images[0].get_clim()
    assert low == -high and high == pytest.approx(float(found.difference_map("cat").abs().max()))
    figure.savefig(io.BytesIO())
    assert len([a for a in found.plot().axes if a.get_title() == "difference"]) == 5
    with pytest.raises(InputError, match=r"give a list: \['cat'\]"):
        found.plot("cat")


def test_what_cannot_be_compared(make_attribution, types_unchecked):
    cat = make_attribution(CAT)
    with pytest.raises(InputError, match="second is a int"):
        compare(cat, 3)
    with pytest.raises(InputError, match="first is an empty list"):
        compare([], cat)
    with pytest.raises(InputError, match="second is a list with a str"):
        compare(cat, [cat, "a dog"])
    with pytest.raises(InputError, match=r"images of \(64, 96\) and \(96, 64\)"):
        compare(cat, make_attribution(CAT, size=(96, 64)))
    with pytest.raises(InputError, match="The list second has runs of the prompts 'a cat"):
        compare(cat, [cat, make_attribution("a dog")])
    with pytest.raises(InputError, match="is not a ranking"):
        compare(cat, cat, ranking="lifts")
    with pytest.raises(InputError, match="a name for each of the two sides; got 'ab'"):
        compare(cat, cat, names="ab")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 7.3, 20, 1000])
def test_students_quantile(freedom):
    assert quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_few_degrees_between_whole_numbers_are_rounded_down():
    assert quantile(2.9) == quantile(2) > stats.t.ppf(0.975, 2.9)


def test_intervals():
    one, two = [1.0, 2.0, 4.0, 7.0, 3.0, 3.5], [2.0, 5.0, 4.0, 4.5, 4.0, 6.0, 9.0]
    test = stats.ttest_ind(two, one, equal_var=False).confidence_interval()
    assert difference_interval(one, two) == pytest.approx((test.low, test.high), rel=2e-3)
    assert mean_interval([1.0]) is None and difference_interval([1.0], two) is None
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)
    assert difference_interval([1.0, 1.0], [3.0, 3.0]) == (2.0, 2.0)
    assert all(map(math.isfinite, mean_interval(one)))


def test_a_side_is_no_video(make_attribution, types_unchecked):
    """Its frames would count as seeds, with an interval that means nothing."""
    frames = [make_attribution(seed=seed) for seed in (1, 2, 3)]
    video = VideoAttribution.of_frames(frames)
    for one, other in ((video, video), (frames[0], video), ([video, video], [frames[0]])):
        with pytest.raises(InputError, match=r"frames with each other: compare\(video\[7\]"):
            compare(one, other)
    for given in (video, [video, video]):
        with pytest.raises(InputError, match=r"Attribution.mean\(\[video\[7\] for video in videos"):
            Attribution.mean(given)
    assert compare(video[0], video[1])["cat"].difference is not None


@pytest.mark.parametrize("names", ["ab", ("a",), ("a", "b", "c"), (1, 2), None, {"a": 1, "b": 2}])
def test_names_are_two_texts(make_attribution, names, types_unchecked):
    one = make_attribution()
    with pytest.raises(InputError, match="names= has a name for each of the two sides"):
        compare(one, one, names=names)


def test_files_are_loaded_before_they_are_compared(make_attribution, tmp_path, types_unchecked):
    paths = [make_attribution(seed=seed).save(tmp_path / f"{seed}.safetensors") for seed in (1, 2)]
    for given in (paths, [str(path) for path in paths]):
        for call in (
            lambda given=given: compare(*given),
            lambda given=given: compare(given, given),
        ):
            with pytest.raises(InputError, match=r"Attribution.load\(path\) reads a file"):
                call()
        with pytest.raises(InputError, match=r"number 0 is a .*Attribution.load\(path\) reads a"):
            Attribution.mean(given)
    one, two = map(Attribution.load, paths)
    assert compare(one, two)["cat"].difference == pytest.approx(
        compare(*(make_attribution(seed=seed) for seed in (1, 2)))["cat"].difference
    )
    assert Attribution.mean([one, make_attribution(seed=2)]).run["runs"] == 2


@pytest.mark.parametrize("key", [1.5, None, True, ("cat",)])
def test_a_key_that_is_no_place_and_no_word(make_attribution, key, types_unchecked):
    one = make_attribution()
    with pytest.raises(InputError, match="neither the position of a word, from 0, nor a word's"):
        compare(one, one)[key]


@pytest.mark.parametrize("weights", [3, 1.5, "12", [1], [1, -1], [1, float("nan")], [0, 0], {}])
def test_weights_that_are_none(make_attribution, weights, types_unchecked):
    runs = [make_attribution(seed=seed) for seed in (1, 2)]
    with pytest.raises(InputError, match="weights= has"):
        Attribution.mean(runs, weights=weights)
