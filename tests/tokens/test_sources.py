"""Every source against the real encode_prompt of its pipelines: which id is in which column."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from stock_encoding import NOTHING, STOCK, Stock

from diffusers_rdaam.tokens.encoder_columns import EncoderColumns
from diffusers_rdaam.tokens.prompt_of_columns import prompt_from
from diffusers_rdaam.tokens.sources import SOURCES

TEXTS = {
    "plain": "a cat with a blue hat",
    "quotes": 'the \'cat\'s "hat" says "a dog" and ‘eyes’ {x} {} 100%',
    "lines": "  A Cat\n\twith  the red HAT \n",
    "scripts": "a 猫犬 with ﬁve éyes İ",
    "empty": "",
    "long": "a cat with the blue dog, " * 60 + "red hat",
}
TAG = re.compile(r"<\|image_1\|>")
CASES = [
    pytest.param(name, index, is_negative, id=f"{name}-{index}{'-negative' * is_negative}")
    for name, stocks in STOCK.items()
    for index, stock in enumerate(stocks)
    for is_negative in (False, True)[: 1 + stock.has_negative]
]


def test_every_source_has_its_pipeline():
    assert set(STOCK) == set(SOURCES)
    assert all(STOCK.values())


@pytest.fixture(scope="module")
def pipes() -> dict[tuple[str, int], Any]:
    return {}


def stock_and_pipe(pipes: dict, name: str, index: int) -> tuple[Stock, Any]:
    stock = STOCK[name][index]
    if (name, index) not in pipes:
        with warnings.catch_warnings():
            # A toy pipeline is not what the classes expect; nothing of it is tested here.
            warnings.simplefilter("ignore")
            pipes[name, index] = stock.build()
    return stock, pipes[name, index]


def laid_out(found: tuple[EncoderColumns, ...], total: int) -> list[tuple[int, str] | None]:
    """The id and kind of each column, by the columns' starts; None where no encoder has one."""
    places: list[tuple[int, str] | None] = [None] * total
    for one in found:
        for column, piece in enumerate(one.pieces, one.start):
            if places[column] is None:
                places[column] = (piece.id, piece.kind)
    return places


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize(("name", "index", "is_negative"), CASES)
def test_ids_are_those_that_the_encoder_was_given(pipes, name, index, text, is_negative):
    stock, pipe = stock_and_pipe(pipes, name, index)
    arguments = {**stock.arguments, "prompt": text}
    if is_negative:
        arguments["is_negative"] = True
    if arguments.get("input_images"):
        arguments["prompt"] = text = f"{text} <img><|image_1|></img> {text}"
    ids = stock.ids(pipe, arguments)
    found = SOURCES[name](pipe, arguments, len(ids))
    for column, (place, id) in enumerate(zip(laid_out(found, len(ids)), ids, strict=True)):
        if place is None:
            assert id == NOTHING, column
        elif place[1] == "padding":
            # Zeros in the place of padding, or its id.
            assert id in (NOTHING, place[0] + 1), column
        else:
            assert id == place[0] + 1, (column, place)
    assert_spans_are_the_texts(found, text)


def assert_spans_are_the_texts(found: tuple[EncoderColumns, ...], text: str) -> None:
    for name in {one.name for one in found} - {"byt5"}:
        parts = [one for one in found if one.name == name]
        for written in {one.text for one in parts}:
            same = [one for one in parts if one.text == written]
            if all(piece.kind == "padding" for one in same for piece in one.pieces):
                # An encoder that is not loaded, or is not given a text.
                continue
            spans = [(p.start, p.end) for one in same for p in one.pieces if p.kind == "text"]
            for start, end in spans:
                assert 0 <= start <= end <= len(written)
                assert written[start:end] == written[start:end].strip()
            # Each letter of the text is of a token, or was cut.
            cut = [span for one in same for span in one.cut]
            seen = {at for start, end in (*spans, *cut) for at in range(start, end)}
            # A picture stands in the place of its tag.
            seen |= {at for tag in TAG.finditer(written) for at in range(*tag.span())}
            lost = [c for at, c in enumerate(written) if at not in seen and not c.isspace()]
            assert lost == [], name
    prompt = prompt_from(found)
    assert prompt.text is not None
    for word in prompt.words:
        for column in word.columns:
            tokens = [t.tokens[column] for t in prompt.texts]
            assert any(token.overlaps(word.start, word.end) for token in tokens)
