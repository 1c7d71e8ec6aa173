"""Faithfulness: what the three references compare, and one scene of few steps with its cache."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from benchmarks import faithfulness
from benchmarks.__main__ import main
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


def test_the_command_prints_the_table_of_the_scenes_that_were_asked_for(
    tmp_path, monkeypatch, capsys
):
    numbers = dict.fromkeys((*REFERENCES, RIGHT), 0.25)
    made = []

    def scene(pipe, model, prompt, names, noise, *, curves):
        made.append((model.name, prompt, curves))
        return {"attention, lift": {**numbers, REFERENCES[0]: len(made) / 4}}

    monkeypatch.setattr(faithfulness, "scene", scene)
    monkeypatch.setattr(faithfulness, "_pipe", lambda model: None)
    arguments = ["faithfulness", "--model", "flux", "--cache", str(tmp_path), "--scenes"]
    assert main([*arguments, "3"]) == 0
    printed = capsys.readouterr().out
    assert "flux, 3 scenes" in printed and "stable-diffusion" not in printed
    assert "| attention, lift | 0.50 (" in printed
    # Scenes that are done are read, and of fewer of them the table is theirs.
    assert main([*arguments, "2"]) == 0
    assert "flux, 2 scenes" in (printed := capsys.readouterr().out)
    assert "| attention, lift | 0.38 (" in printed
    assert len(made) == 3 and {(name, curves) for name, _, curves in made} == {("flux", False)}
    assert main([*arguments[:1], "--cache", str(tmp_path), "--scenes", "1", "--full"]) == 0
    assert [(name, curves) for name, _, curves in made[3:]] == [
        ("stable-diffusion", True),
        ("flux", True),
    ]
    with pytest.raises(SystemExit):
        main([*arguments, "0"])
    assert "--scenes is 0. It is at least 1." in capsys.readouterr().err
