"""A file of version 1 of the format, which an earlier release wrote, loads with equal answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffusers_rdaam import Attribution

FOLDER = Path(__file__).parents[1] / "files" / "fixtures"
BOX = (3, 2, 15, 11)


def as_written(answer: Any) -> Any:
    """As JSON has it: lists for tuples."""
    return json.loads(json.dumps(answer))


def nearly(answer: Any) -> Any:
    """The same, numbers to within float32."""
    if isinstance(answer, dict):
        return {name: nearly(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [nearly(value) for value in answer]
    return pytest.approx(answer, rel=1e-6) if isinstance(answer, float) else answer


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The answers that the release gave which wrote the file."""
    return json.loads((FOLDER / "attribution_version_1.json").read_text(encoding="utf-8"))


def as_of_then(found: dict[str, Any]) -> dict[str, Any]:
    """The answers without what later releases say too."""
    return {
        name: {key: value for key, value in answer.items() if key != "no_word"}
        if isinstance(answer, dict)
        else answer
        for name, answer in found.items()
    }


def answers(attribution: Attribution) -> dict[str, Any]:
    negative = attribution.negative_attribution
    assert negative is not None
    region = attribution.region(BOX).to_dict()
    region["negative"].pop("no_word")
    return {
        "to_dict": attribution.to_dict(),
        "region": region,
        "masses": {
            f"{word.text} {word.encoder}": attribution.word(word).mass(BOX)
            for word in attribution.words
        },
        "columns": [list(word.columns) for word in attribution.words],
        "step 2": attribution.steps[2].region((0, 0, 12, 8)).to_dict(),
        "negative": negative.region((0, 0, 12, 8)).to_dict(),
    }


def test_a_file_of_version_1_gives_equal_answers(expected):
    attribution = Attribution.load(FOLDER / "attribution_version_1.safetensors")
    assert [text.text for text in attribution.prompt.texts] == [
        "a cat with 猫 , hat",
        "a hat and blue dog",
    ]
    assert {token.encoder for text in attribution.prompt.texts for token in text.tokens} == {None}
    assert as_written(as_of_then(answers(attribution))) == nearly(expected)


def test_it_is_written_again_as_version_2(expected, tmp_path):
    path = Attribution.load(FOLDER / "attribution_version_1.safetensors").save(tmp_path / "again")
    again = Attribution.load(path)
    assert b'"version": "2"' in path.read_bytes()
    assert as_written(as_of_then(answers(again))) == nearly(expected)
