"""Faithfulness: what the three references compare, and one scene of few steps with its cache."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from benchmarks import faithfulness
from benchmarks.faithfulness import (
    METHODS,
    REFERENCES,
    RIGHT,
    _numbers,
    _references,
    evaluate,
    rows_of,
    table_of,
)
from benchmarks.truth.models import model_of
from diffusers_rdaam.geometry.region import Box

BOX = Box(0, 0, 4, 8)
NAMES = ("red circle", "blue square")


# The change of an image of 8x8 pixels without each word: in the box, and in the rest.
CHANGES = {
    "a": (0.1, 0.9), "red": (0.8, 0.1), "circle": (0.6, 0.0), "and": (0.2, 0.1),
    "blue": (0.3, 0.7), "square": (0.05, 0.5),
}  # fmt: skip


class Changes:
    """In place of generations without each word."""

    def without(self, words):
        inside, outside = CHANGES[words[0]]
        change = torch.full((8, 8), outside, dtype=torch.float64)
        change[:, :4] = inside
        return change


def test_the_references():
    wanted = _references(Changes(), list(CHANGES), BOX, NAMES)
    assert list(wanted) == list(REFERENCES)
    inside, content, difference = wanted.values()
    assert inside == pytest.approx({word: one for word, (one, _) in CHANGES.items()})
    assert set(content) == {"red", "circle", "blue", "square"}
    assert difference["a"] == pytest.approx(-0.8) and difference["red"] == pytest.approx(0.7)


def test_a_ranking_is_right_by_one_reference_and_wrong_by_another():
    wanted = _references(Changes(), list(CHANGES), BOX, NAMES)
    # What the box has more of than the image has, as lift ranks.
    scores = {word: one - other for word, (one, other) in CHANGES.items()}
    numbers = _numbers(scores, wanted, "red circle", None, BOX)
    assert numbers[REFERENCES[2]] == pytest.approx(1.0)
    assert numbers[REFERENCES[0]] < 0.9 and numbers[RIGHT] == 1.0
    assert _numbers(scores, wanted, "blue square", None, BOX)[RIGHT] == 0.0


def test_one_scene_and_its_cache(tmp_path, monkeypatch):
    model = model_of("stable-diffusion")
    model = dataclasses.replace(model, settings={**model.settings, "num_inference_steps": 3})
    everything = lambda image, names: {  # noqa: E731
        name: torch.ones(128, 128).bool().numpy() for name in names
    }
    monkeypatch.setattr(faithfulness, "masks_of", everything)
    found = evaluate(model, 1, cache=tmp_path)
    assert len(found) == 1
    assert {"attention, lift", "attention refined, lift", "random"} < set(found[0])
    assert {f"gradient, {method}" for method in METHODS} < set(found[0])
    for numbers in found[0].values():
        assert set(numbers) == {*REFERENCES, RIGHT}
        assert all(math.isnan(value) or -1.0 <= value <= 1.0 for value in numbers.values())
    monkeypatch.setattr(faithfulness, "scene", None)
    again = evaluate(model, 1, cache=tmp_path)
    assert repr(again) == repr(found)
    table = table_of("m", found)
    assert table.columns == ["explanation", *REFERENCES, RIGHT]
    assert len(rows_of("m", found)) == len(table.rows) == len(found[0])
