"""The page's events as functions: regions from a browser, bars, files and uploads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from diffusers_rdaam import Attribution, AttributionFileError, InputError, RegionError, compare
from diffusers_rdaam.app import events

SIZE = (64, 96)


def test_a_selection_is_the_region_that_was_drawn() -> None:
    box = events.selected_region({"box": [10, 20, 30.5, 40], "polygon": None}, SIZE)
    assert box is not None and box.as_tuple() == (10, 20, 30.5, 40)  # type: ignore[union-attr]
    polygon = events.selected_region({"polygon": [[1, 2], [50, 2], [50, 40]]}, SIZE)
    assert polygon is not None and polygon.points == ((1, 2), (50, 2), (50, 40))  # type: ignore[union-attr]
    assert events.selected_region({}, SIZE) is None
    assert events.selected_region({"box": None, "polygon": None, "strokes": []}, SIZE) is None
    assert events.read_selection("") == events.read_selection("[1]") == {}


def test_strokes_are_painted_and_erased() -> None:
    strokes = [
        {"radius": 4, "points": [[20, 20], [60, 20]]},
        {"radius": 6, "points": [[40, 20]], "erase": True},
    ]
    mask = np.asarray(events.painted(strokes, SIZE)) > 0
    expected = Image.new("L", SIZE[::-1], 0)
    draw = ImageDraw.Draw(expected)
    draw.line([(20, 20), (60, 20)], fill=255, width=8)
    assert mask.shape == SIZE and mask[20, 18] and mask[20, 62] and not mask[20, 40]
    # But for its round ends and the erased middle it is the line.
    assert (mask != (np.asarray(expected) > 0)).mean() < 0.04
    region = events.selected_region({"strokes": strokes}, SIZE)
    assert region is not None
    assert float(region.coverage(SIZE).sum()) == pytest.approx(mask.sum())


@pytest.mark.parametrize(
    "selection",
    [
        {"box": [1, 2, 3]},
        {"box": "1234"},
        {"box": [1, 2, "3", 4]},
        {"box": [1, 2, float("nan"), 4]},
        {"box": [1, 2, 1e300, 4]},
        {"box": [1, 2, 10**400, 4]},
        {"polygon": [[1, 2], [50, 2], [50, -(10**400)]]},
        {"strokes": [{"radius": 10**400, "points": [[1, 1]]}]},
        {"box": [True, 0, 10, 10]},
        {"box": [30, 2, 10, 40]},
        {"box": {"left": 1}},
        {"polygon": [[1, 2], [3, 4]]},
        {"polygon": [[1, 2, 3], [3, 4, 5], [5, 6, 7]]},
        {"polygon": [1, 2, 3]},
        {"polygon": [[1, 2]] * 20_001},
        {"strokes": "all"},
        {"strokes": [3]},
        {"strokes": [{"radius": 4}]},
        {"strokes": [{"radius": 0, "points": [[1, 1]]}]},
        {"strokes": [{"radius": 1e5, "points": [[1, 1]]}]},
        {"strokes": [{"radius": 4, "points": [[None, 1]]}]},
        {"strokes": [{"radius": 4, "points": [[1, 1]]}] * 501},
        {"strokes": [{"radius": 4, "points": [[1, 1]] * 15_000}] * 2},
    ],
)
def test_what_is_no_region_is_refused(
    selection: dict[str, Any], make_attribution: Callable[..., Attribution]
) -> None:
    with pytest.raises(RegionError):
        region = events.selected_region(selection, SIZE)
        make_attribution().region(region)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "x" * 2_000_001, 7])
def test_a_selection_that_is_not_json_is_refused(text: Any) -> None:
    with pytest.raises(RegionError, match="Draw it again"):
        events.read_selection(text)


def test_bars_have_the_numbers_of_the_region(make_attribution: Callable[..., Attribution]) -> None:
    found = make_attribution()
    words = found.region((10, 10, 40, 40), ranking="score")
    chart = events.region_chart(found, words.region, "score")
    assert [bar.word for bar in chart.bars] == [word.text for word in words]
    assert [bar.numbers["score"] for bar in chart.bars] == [f"{word.score:.4f}" for word in words]
    lengths = [bar.length for bar in chart.bars]
    assert lengths[0] == 1.0 and lengths == sorted(lengths, reverse=True)
    assert "special tokens" in chart.notes[0]


def test_every_word_has_its_map_once(make_attribution: Callable[..., Attribution]) -> None:
    found = make_attribution("a red cat and a red mat")
    maps = events.heat_maps(found)
    assert [word for word, _, _ in maps] == ["a", "red", "cat", "and", "mat"]
    cat = found.word("cat")
    assert maps[2][2] == pytest.approx(float(cat.peak))
    assert (np.asarray(maps[2][1]) == np.asarray(cat.overlay())).all()


def test_a_file_without_an_image_has_its_maps_alone(
    make_attribution: Callable[..., Attribution],
) -> None:
    found = make_attribution("a red cat", image=False)
    maps = events.heat_maps(found)
    assert [word for word, _, _ in maps] == ["a", "red", "cat"]
    assert all(picture.size == found.image_size[::-1] for _, picture, _ in maps)
    # Colours of its own values, not one flat picture.
    assert len(maps[2][1].getcolors(100_000) or ()) > 50
    table = make_attribution("a wooden table", image=False)
    concepts = replace(found, vocabulary={"a wooden table": table})
    assert [picture.size for _, picture, _ in events.concept_maps(concepts)] == [(96, 64)]


def test_two_images_are_compared_word_by_word(
    make_attribution: Callable[..., Attribution],
) -> None:
    first, second = make_attribution(seed=1), make_attribution(seed=2)
    header, rows, title = events.comparison_chart(first, second)
    expected = compare(first, second)
    assert header == ["word", "A", "B", "B - A"] and title == expected.title
    assert [row[0] for row in rows] == [word.text for word in expected]
    assert rows[0][3] == f"{expected[0].difference:.4g}"


def test_costs_are_said_before() -> None:
    assert events.costs(6, 2.0) == (
        "Gradients take one generation and its way back, about 8 s; the change without each word "
        "takes 7 generations, about 14 s."
    )
    assert "about 4 min" in events.costs(6, 30.0)
    assert "made here" in events.costs(6, None)


def _bomb(path: Path) -> None:
    Image.new("1", (8192, 4096)).save(path)


def _text(path: Path) -> None:
    path.write_text("<svg onload='alert(1)'/>")


def _cut(path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(path)
    path.write_bytes(path.read_bytes()[:60])


def _many(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(events.MOST_UPLOAD + 1)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (_bomb, "8192 by 4096 pixels, and at most 16777216"),
        (_text, "cannot be read as a PNG"),
        (_cut, "cannot be read as a PNG"),
        (_many, f"{events.MOST_UPLOAD + 1} bytes; at most {events.MOST_UPLOAD}"),
        (os.mkfifo, "is a pipe, socket or device"),
        (Path.mkdir, "There is no picture"),
        (lambda path: None, "There is no picture"),
    ],
)
def test_an_upload_that_is_no_picture_is_refused(
    tmp_path: Path, write: Callable[[Path], Any], text: str
) -> None:
    path = tmp_path / "upload.png"
    write(path)
    with pytest.raises(AttributionFileError, match=text):
        events.read_upload(path)


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert events.read_upload(tmp_path / "a.jpg").size == (20, 40)


@pytest.mark.parametrize("content", [b"", b"not a file of ours", b"\x08" + b"\x00" * 7 + b"{}" * 9])
def test_a_file_that_is_no_attribution_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(AttributionFileError):
        events.read_attribution(path)


def test_a_folder_is_listed_and_nothing_outside_of_it_is_opened(
    tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    found = make_attribution()
    found.save(folder / "deep" / "b.safetensors")
    found.save(folder / "a.safetensors")
    found.save(tmp_path / "secret.safetensors")
    (folder / "notes.txt").write_text("x")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (folder / "out").symlink_to(tmp_path)
    assert events.listed_files(folder) == ["a.safetensors", "deep/b.safetensors"]
    assert events.open_listed(folder, "deep/b.safetensors").words
    for name in (
        "../secret.safetensors",
        str(tmp_path / "secret.safetensors"),
        "deep/../../secret.safetensors",
        "link.safetensors",
        "out/secret.safetensors",
        "~/secret.safetensors",
        "a\x00b",
        None,
        7,
    ):
        with pytest.raises(InputError):
            events.open_listed(folder, name)
    with pytest.raises(AttributionFileError):
        events.open_listed(folder, "notes.txt")


def test_concepts_are_split_and_named_once() -> None:
    assert events.split_concepts(" a dog, sky\na dog,, \n") == ("a dog", "sky")


def test_without_a_parser_the_tree_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(InputError, match=r'pip install "diffusers_rdaam\[nlp\]"'):
        events.dependency_tree("a cat")


def test_a_selection_comes_through_json() -> None:
    text = json.dumps({"attribution": 0, "box": [1, 2, 30, 40], "polygon": None})
    assert events.selected_region(events.read_selection(text), SIZE) is not None


def test_repeated_words_of_a_list_have_a_number(
    make_attribution: Callable[..., Attribution],
) -> None:
    prompt = make_attribution("a cat and a hat").prompt
    labels = events.word_labels(prompt)
    assert list(labels) == ["a (1 of 2)", "cat", "and", "a (2 of 2)", "hat"]
    assert [word.start for word in labels.values()] == [0, 2, 6, 10, 12]


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        ("cat", " big dog ", "a big dog and a hat"),
        ("a (2 of 2)", "the", "a cat and the hat"),
        ("hat", "<b>", "a cat and a <b>"),
    ],
)
def test_a_replaced_word_leaves_the_others_where_they_are(
    make_attribution: Callable[..., Attribution], label: str, text: str, wanted: str
) -> None:
    prompt = make_attribution("a cat and a hat").prompt
    changed = events.replaced_word(prompt, label, text)
    assert changed.prompt == wanted and changed.text == text.strip()
    start = changed.word.start
    assert changed.prompt[start : start + len(changed.text)] == changed.text


def test_the_maps_of_both_words_are_those_of_their_images(
    make_attribution: Callable[..., Attribution],
) -> None:
    before = make_attribution("a cat and a hat")
    changed = events.replaced_word(before.prompt, "cat", "big dog")
    after = make_attribution(changed.prompt, seed=1)
    (one, _, first), (other, _, second) = events.replaced_maps(before, after, changed)
    assert (one, other) == ("A: cat", "B: big dog")
    assert first == pytest.approx(float(before["cat"].peak))
    assert second == pytest.approx(float(after["big dog"].peak))


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        ("dog", "x", r"'dog' is not a word of the prompt\. Words: a \(1 of 2\), cat, and, "),
        (["cat"], "x", "is not a word of the prompt"),
        (3, "x", "3 is not a word"),
        (None, "x", "No word was chosen. Choose one of: a "),
        ("", "x", "No word was chosen"),
        ("cat", " ", "The new word is empty. Write one to put in the place of 'cat'"),
        ("cat", None, "The new word is empty"),
        ("cat", " cat ", "'cat' is the word that is there"),
    ],
)
def test_a_word_that_cannot_be_replaced_says_so(
    make_attribution: Callable[..., Attribution], label: Any, text: Any, wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted):
        events.replaced_word(make_attribution("a cat and a hat").prompt, label, text)
    for prompt in ("", None):
        with pytest.raises(InputError, match="no word that could be replaced"):
            events.replaced_word(make_attribution(prompt).prompt, "cat", "dog")
