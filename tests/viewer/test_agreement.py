"""What the page computes is what Python computes."""

from __future__ import annotations

import base64
import json
import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diffusers_rdaam import viewer_page
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.region_words import RegionWords
from diffusers_rdaam.errors import RepeatedWordWarning
from diffusers_rdaam.geometry.region import Box, Mask

pytestmark = pytest.mark.browser
# Of the highest value of a map, or of the highest score.
AGREES = 1e-3
COLUMNS = ("lift", "score", "share")


def boxes(size: tuple[int, int], count: int) -> list[tuple[float, float, float, float]]:
    """Boxes of whole pixels, every third with fractions, some reaching beyond the image."""
    height, width = size
    draw = random.Random(3)
    found: list[Any] = [(0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, width, height)]
    while len(found) < count:
        x = sorted(draw.uniform(-5, width + 5) for _ in range(2))
        y = sorted(draw.uniform(-5, height + 5) for _ in range(2))
        box = (x[0], y[0], x[1], y[1])
        if len(found) % 3:
            box = tuple(map(round, box))  # type: ignore[assignment]
        inside = (
            min(box[2], width) - max(box[0], 0) > 1 and min(box[3], height) > max(box[1], 0) + 1
        )
        if inside and max(box) > 2:
            found.append(box)
    return found


def polygons(size: tuple[int, int], count: int) -> list[list[tuple[float, float]]]:
    """Outlines of 3 to 9 points, most of which cross themselves."""
    height, width = size
    draw = random.Random(4)
    return [
        [
            (draw.uniform(-9, width + 9), draw.uniform(-9, height + 9))
            for _ in range(draw.randint(3, 9))
        ]
        for _ in range(count)
    ]


def check_regions(page, attribution: Attribution, forms: list[dict[str, Any]]) -> None:
    """The words of each region, their order and their numbers."""
    answers = page.evaluate("forms => forms.map(form => rdaam.viewers[0].region(form))", forms)
    for form, answer in zip(forms, answers, strict=True):
        check_answer(answer, attribution.region(*form.values()), form)


def check_answer(answer: dict[str, Any], wanted: RegionWords, form: Any) -> None:
    found = {word["text"]: word for word in answer["words"]}
    assert [word["rank"] for word in answer["words"]] == list(range(1, len(wanted) + 1))
    assert set(found) == {word.label for word in wanted}
    for name in COLUMNS:
        highest = max(getattr(word, name) for word in wanted)
        for word in wanted:
            assert found[word.label][name] == pytest.approx(
                getattr(word, name), abs=AGREES * highest
            ), (form, word.text, name)
    for (kind, score), value in zip(
        wanted.special.items(), answer["special"].values(), strict=True
    ):
        assert value == pytest.approx(score, abs=AGREES), kind
    if wanted.contrast is None:
        assert answer["contrast"] is None
    elif math.isfinite(wanted.contrast):
        assert answer["contrast"] == pytest.approx(wanted.contrast, rel=2e-3)
        if abs(wanted.contrast - wanted.no_word_level) > 0.005:
            assert answer["noWord"] == wanted.no_word


def floats_of(page, script: str, argument: Any) -> list[np.ndarray]:
    """The float arrays of a list, as base64: playwright takes long for lists of numbers."""
    texts = page.evaluate(
        f"""argument => ({script})(argument).map((values) => {{
            const bytes = new Uint8Array(values.buffer);
            let text = "";
            for (let i = 0; i < bytes.length; i += 8192) {{
                text += String.fromCharCode(...bytes.subarray(i, i + 8192));
            }}
            return btoa(text);
        }})""",
        argument,
    )
    return [np.frombuffer(base64.b64decode(text), dtype=np.float32) for text in texts]


def check_words(page, attribution: Attribution, *, record: int = 0) -> None:
    """The map of every word, each occurrence by itself."""
    numbers = [word.index for word in attribution.words]
    maps = floats_of(
        page,
        "([numbers, record]) => numbers.map((i) => rdaam.viewers[0].wordMap(i, record))",
        [numbers, record],
    )
    for word, values in zip(attribution.words, maps, strict=True):
        check_map(values, attribution[word])


def check_map(values: np.ndarray, heat_map: HeatMap) -> None:
    wanted = heat_map.values.numpy()
    assert np.abs(np.reshape(values, wanted.shape) - wanted).max() <= AGREES * wanted.max()
    assert wanted.max() > 0.0


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["plain", "tall", "square", "two texts", "long", "streams"])
def test_boxes_polygons_and_words(pages, name, make_attribution, streams_attribution) -> None:
    attribution = {
        "plain": lambda: make_attribution(),
        "tall": lambda: make_attribution("a cat, a dog", size=(130, 50), grids=((13, 5), (26, 10))),
        "square": lambda: make_attribution(
            "κόκκινο 正方形 🙂 box", size=(64, 64), grids=((64, 64),)
        ),
        "two texts": lambda: two_texts(make_attribution),
        "long": lambda: make_attribution(" ".join(f"word{i}" for i in range(40)), seed=5),
        "streams": lambda: streams_attribution,
    }[name]()
    page = pages.show(attribution.to_html())
    check_words(page, attribution)
    size = attribution.image_size
    check_regions(page, attribution, [{"box": box} for box in boxes(size, 50)])
    check_regions(page, attribution, [{"polygon": outline} for outline in polygons(size, 20)])


def two_texts(make_attribution: Callable[..., Attribution]) -> Attribution:
    """A prompt and a ``prompt_2`` over the same columns."""
    from dataclasses import replace

    first = make_attribution("a red cat")
    second = make_attribution("the old hat").prompt
    assert len(first.prompt.tokens) == len(second.tokens)
    return replace(first, prompt=replace(first.prompt, further=(second,)))


def test_a_repeated_word_and_a_phrase(pages, make_attribution) -> None:
    attribution = make_attribution("a cat and a dog and a cat")
    page = pages.show(attribution.to_html())
    words = [word.text for word in attribution.words]
    for numbers, query in (([1, 7], "cat"), ([3, 4], "a dog")):
        assert " ".join(dict.fromkeys(words[i] for i in numbers)) == query
        [found] = floats_of(page, "(numbers) => [rdaam.viewers[0].wordMap(numbers)]", numbers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RepeatedWordWarning)
            check_map(found, attribution[query])


def test_finer_records(pages, full_attribution) -> None:
    attribution = full_attribution()
    page = pages.show(attribution.to_html())
    maps = page.evaluate("rdaam.viewers[0].maps")
    kinds = [one["kind"] for one in maps]
    assert kinds == ["all", "refined", *["step"] * 3, *["layer"] * 3, *["grid"] * 2]
    parts = {"all": [attribution], "refined": [attribution.refined()]}
    parts["step"] = [attribution.steps[step] for step in (0, 2, 3)]
    parts["layer"] = [attribution.select(layers=[site]) for site in attribution.layers]
    parts["grid"] = [attribution.select(resolutions=[size]) for size in ((8, 12), (2, 3))]
    for one in maps:
        part = parts[one["kind"]].pop(0)
        page.evaluate(
            "([kind, label]) => rdaam.viewers[0].showMaps(kind, label)", list(one.values())
        )
        check_words(page, part)
        check_regions(page, part, [{"box": box} for box in boxes(part.image_size, 6)])
    assert not any(parts.values())


def test_streams(pages, streams_attribution) -> None:
    page = pages.show(streams_attribution.to_html())
    for stream in ("double", "single"):
        page.evaluate("name => rdaam.viewers[0].showMaps('stream', name)", stream)
        part = streams_attribution.select(stream=stream)
        check_words(page, part)
        check_regions(page, part, [{"box": (10, 5, 50, 40)}])


def test_other_texts(pages, full_attribution) -> None:
    attribution = full_attribution()
    page = pages.show(attribution.to_html())
    check_words(page, attribution.negative, record=1)
    check_words(page, attribution.vocabulary["a wooden table"], record=2)


def test_self_attention(pages, full_attribution) -> None:
    attribution = full_attribution()
    page = pages.show(attribution.to_html())
    for x, y in ((0, 0), (50, 20), (95, 63)):
        found = page.evaluate(
            "([x, y]) => Array.from(rdaam.viewers[0].selfAttention(x, y))", [x, y]
        )
        check_map(found, attribution.self_attention.box((x, y, x + 1, y + 1)))


def test_masks_and_their_boxes(pages, make_attribution) -> None:
    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    for word in attribution.words:
        page.evaluate("index => rdaam.viewers[0].chooseWord(index)", word.index)
        heat_map = attribution[word]
        for threshold in (None, 0.2, 0.9):
            found = page.evaluate(
                "t => { const {mask, box} = rdaam.viewers[0].wordMask(t ?? undefined);"
                " return {mask: mask.join(''), box}; }",
                threshold,
            )
            wanted = heat_map.mask(threshold).numpy()
            # A pixel at the threshold may round to either side.
            mask = np.array([pixel == "1" for pixel in found["mask"]]).reshape(wanted.shape)
            assert (mask != wanted).mean() < 2e-3
            assert found["box"] == pytest.approx(list(heat_map.box(threshold)), abs=1)


def test_what_is_exported(pages, make_attribution) -> None:
    attribution = make_attribution("a red cat")
    page = pages.show(attribution.to_html())
    page.evaluate("rdaam.viewers[0].chooseWord(2); rdaam.viewers[0].selectBox([9, 5, 58, 40])")
    names = {"attribution": attribution}
    assert eval(page.evaluate("rdaam.viewers[0].python()"), names).region == Box(9, 5, 58, 40)
    rows = page.evaluate("rdaam.viewers[0].csv()").split("\r\n")
    assert rows[0] == "rank,word,lift,score,share" and rows[-1] == ""
    wanted = attribution.region((9, 5, 58, 40))
    assert [row.split(",")[1] for row in rows[1:-1]] == [word.text for word in wanted]
    coco = page.evaluate("rdaam.viewers[0].coco()")
    region, word = coco["annotations"]
    assert region["bbox"] == [9, 5, 49, 35] and region["area"] == 49 * 35
    mask = Mask.from_coco(word["segmentation"]).weights.bool()
    assert float((mask == attribution["cat"].mask()).float().mean()) > 0.998
    assert word["area"] == int(mask.sum())
    page.evaluate("rdaam.viewers[0].selectPolygon([[1, 2], [50, 3], [30.5, 60]])")
    points = ((1.0, 2.0), (50.0, 3.0), (30.5, 60.0))
    assert eval(page.evaluate("rdaam.viewers[0].python()"), names).region.points == points
    coco = page.evaluate("rdaam.viewers[0].coco()")
    assert coco["annotations"][0]["segmentation"] == [[1, 2, 50, 3, 30.5, 60]]
    json.dumps(coco)


def test_no_word_stands_out(pages, make_attribution) -> None:
    """Where special tokens have the attention, the page says so."""
    attribution = make_attribution("a cat", grids=((8, 12),))
    maps = attribution.grids[0].maps
    maps[0, :, :6] += 6.0
    maps /= maps.sum(dim=0)
    assert attribution.region((0, 0, 40, 60)).no_word
    assert not attribution.region((60, 0, 96, 60)).no_word
    page = pages.show(attribution.to_html())
    page.evaluate("rdaam.viewers[0].selectBox([0, 0, 40, 60])")
    assert "no word made this region" in page.inner_text(".remark")
    page.evaluate("rdaam.viewers[0].selectBox([60, 0, 96, 60])")
    assert not page.is_visible(".remark")


def test_several_attributions(pages, make_attribution) -> None:
    """Each panel has its own maps, and a region of one is that of all while they are linked."""
    first, second = make_attribution("a red cat"), make_attribution("a red dog", seed=7)
    page = pages.show(viewer_page([first, second]))
    page.evaluate("rdaam.viewers[1].selectBox([9, 5, 58, 40])")
    headings = page.locator("h2").all_inner_texts()
    assert [text.split(",")[0] for text in headings] == ["Words in box (9"] * 2
    answer = page.evaluate("rdaam.viewers[1].region({box: [9, 5, 58, 40]})")
    best = second.region((9, 5, 58, 40))[0]
    assert answer["words"][0]["text"] == best.text
    assert answer["words"][0]["lift"] == pytest.approx(best.lift, rel=AGREES)
    page.get_by_label("Same region and word in all images").uncheck()
    page.evaluate("rdaam.viewers[1].selectBox(null)")
    headings = page.locator("h2").all_inner_texts()
    assert headings[0].startswith("Words in box") and headings[1] == "Words in the whole image"


def test_a_box_is_answered_within_a_picture(pages, make_attribution) -> None:
    """At 1024 by 1024 with 77 columns: 16 ms, the time of one picture of 60 a second."""
    text = " ".join(f"w{i}" for i in range(70))
    grids = ((64, 64), (32, 32), (16, 16), (8, 8))
    attribution = make_attribution(text, size=(1024, 1024), grids=grids, image=False)
    assert len(attribution.prompt.tokens) >= 74
    page = pages.show(attribution.to_html())
    times = page.evaluate(
        """() => Array.from({length: 25}, (_, i) => {
            const start = performance.now();
            rdaam.viewers[0].region({box: [10 + i, 20 + i, 700 + 9 * i, 800 + i]});
            return performance.now() - start;
        })"""
    )
    assert min(times) <= 16.0, times
    assert torch.tensor(times).median() <= 50.0, times
