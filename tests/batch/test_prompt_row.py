"""The fields of a row: what is taken, and what is wrong with which."""

from __future__ import annotations

import pytest

from diffusers_rdaam.batch.prompt_row import MAX_PROMPT, PromptRow, read_row


def row(index: int = 4, **fields: object) -> PromptRow:
    return read_row(index, {"prompt": "a cat in a hat", **fields}, "line 5", 10)


def test_a_row_without_options_has_a_seed_and_an_id_of_its_own():
    assert row() == PromptRow(4, "00000004", "a cat in a hat", seed=14)
    assert read_row(3, {"prompt": "a"}, "", 2**64 - 2).seed == 1


@pytest.mark.parametrize("seed", [7, "7", 7.0, " 7 "])
def test_seeds_as_tables_have_them(seed):
    assert row(seed=seed).seed == 7


@pytest.mark.parametrize("size", [[64, 96], "64x96", "64 × 96", "[64, 96]", (64.0, "96")])
def test_sizes_are_height_and_width(size):
    assert row(size=size).size == (64, 96)


@pytest.mark.parametrize(
    "words", [["cat", "hat"], '["cat", "hat"]', "cat; hat", ["cat", "hat"] * 2]
)
def test_words_as_lists_or_text(words):
    assert row(words=words).words == ("cat", "hat")


@pytest.mark.parametrize(
    "boxes", [[[1, 2, 8, 9.5]], [1, 2, 8, 9.5], "[[1, 2, 8, 9.5]]", "1,2,8,9.5", "[1, 2, 8, 9.5]"]
)
def test_boxes_as_lists_or_text(boxes):
    assert row(boxes=boxes).boxes == ((1, 2, 8, 9.5),)


def test_images_are_paths_or_bytes():
    assert row(image="one.png").image == "one.png"
    assert row(image={"path": "one.png", "bytes": b"x"}).pixels == b"x"
    assert row(image={"path": "one.png", "bytes": None}).image == "one.png"
    assert row(image=b"x").pixels == b"x"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"prompt": None}, "it has no prompt"),
        ({"prompt": ""}, "it has no prompt"),
        ({"prompt": "  "}, "its prompt is empty"),
        ({"prompt": 3}, "prompt is a text; got 3"),
        ({"prompt": "a\udc80"}, "prompt is not valid UTF-8"),
        ({"prompt": "a" * (MAX_PROMPT + 1)}, f"characters, and at most {MAX_PROMPT}"),
        ({"negative_prompt": ["a"]}, "negative_prompt is a text"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"seed": 1.5}, "seed is a whole number from 0"),
        ({"seed": 2**64}, "seed is a whole number from 0"),
        ({"seed": True}, "seed is a whole number from 0"),
        ({"seed": float("nan")}, "seed is a whole number from 0"),
        ({"size": [64, 65]}, "size is [height, width]"),
        ({"size": 64}, "size is [height, width]"),
        ({"size": [2**14, 2**14]}, "is too large"),
        ({"words": ["dog"]}, "'dog' is not a word of the prompt"),
        ({"words": 3}, "words is a list"),
        ({"words": [""]}, "words is a list"),
        ({"boxes": [[0, 0, 0, 8]]}, "box"),
        ({"boxes": [[0, 0, 8]]}, "boxes is a list of boxes"),
        ({"boxes": "a,b"}, "boxes is a list of boxes"),
        ({"boxes": [[0, 0, float("inf"), 8]]}, "box"),
        ({"size": [64, 64], "boxes": [[70, 70, 80, 80]]}, "lies outside"),
        ({"image": 3}, "image is the path of an image"),
        ({"image": "https://a.b/c.png"}, "nothing is downloaded"),
        ({"image": "a.png", "negative_prompt": "b"}, "a negative_prompt has no effect"),
        ({"id": ["a"]}, "id is a text"),
        ({"id": " "}, "id is a text"),
    ],
)
def test_a_wrong_field_is_the_problem_of_its_row(fields, problem):
    found = row(**fields)
    assert found.problem is not None and problem in found.problem
    assert found.problem.startswith("line 5: ") and found.problem.endswith(".")
    assert found.index == 4


def test_rows_come_back_from_json():
    for one in (row(), row(size=[8, 8], words=["cat"], boxes=[1, 2, 3, 4.5]), row(seed=-1)):
        assert PromptRow.from_json(one.to_json()) == one
    assert PromptRow.from_json(row(image=b"x").to_json(), b"x") == row(image=b"x")
