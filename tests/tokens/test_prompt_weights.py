"""Weighted prompts are read as the text that is encoded."""

from __future__ import annotations

import pytest

from diffusers_rdaam.tokens.prompt_weights import has_weights, readings

READINGS = [
    ("a (red:1.3) circle", [["a red circle"]]),
    ("a (red : .9 ), cat", [["a red, cat"]]),
    ("a (red:-1) cat", [["a red cat"]]),
    ("((cat)) [dog]", [["cat dog"], ["cat [dog]"]]),
    ("(((a) b:1.2) c)", [["a b c"]]),
    ("(cat", [["cat"]]),
    ("cat++ dog-- bird", [["cat dog bird"]]),
    ("a cat--, b", [["a cat, b"]]),
    ("(a cat)++ and (a dog)-", [["a cat and a dog"], ["a cat++ and a dog-"]]),
    ("(a dog)1.3 runs", [["a dog runs"], ["a dog 1.3 runs"]]),
    ("c++ code", [["c code"]]),
    (r"cat \(animal\)", [["cat (animal)"]]),
    ("(cat)s", [["cat s"]]),
    ("(blue:1.2)-eyed", [["blue-eyed"]]),
    ("a cat BREAK a (hat:1.2)", [["a cat", "a hat"]]),
    ("a cat\nBREAK\na hat BREAK", [["a cat", "a hat", ""]]),
    ('("a cat", "a hat++").and()', [["a cat", "a hat"], ["a cat", "a hat++"]]),
    ("blue-eyed cat: 3 well--known 5+5 BREAKFAST", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "wanted"), READINGS)
def test_readings(text, wanted):
    assert readings(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *((t, True) for t in ("(a:1.3)", "a++", "a--", "(a b)1.2", "a BREAK b", r"a \(b\)")),
        *((t, False) for t in ("a (b)", "[a]", "a: 3", "a-b", "well--known", "5 + 5", "break")),
    ],
)
def test_brackets_alone_are_not_weights(text, wanted):
    assert has_weights(text) is wanted
