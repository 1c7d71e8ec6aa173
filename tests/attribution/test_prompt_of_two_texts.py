"""A prompt of two texts over the same columns: words, queries, tables, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from diffusers_rdaam import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import (
    AttributionFileError,
    InputError,
    RepeatedWordWarning,
    WordError,
)

COLUMNS = 8
BOX = (0, 0, 5, 4)


def prompt(text: str) -> Prompt:
    """A token for each part between spaces, a comma of its own."""
    tokens = [Token(0, "<s>", "start")]
    start = 0
    for part in text.split(" "):
        tokens.append(Token(len(tokens), part, "text", start, start + len(part)))
        start += len(part) + 1
    tokens.append(Token(len(tokens), "<e>", "end"))
    more = range(len(tokens), COLUMNS)
    return Prompt(text, (*tokens, *(Token(i, "<p>", "padding") for i in more)))


BOTH = replace(prompt("a cat , hat"), further=(prompt("cat a , blue dog"),))


@pytest.fixture
def attribution() -> Attribution:
    torch.manual_seed(0)
    maps = torch.randn(COLUMNS, 3, 4).softmax(dim=0)
    return Attribution(BOTH, (Grid(maps, 2, ("attn2",)),), (6, 8))


def test_words_of_both_in_order():
    found = [(w.index, w.text, w.encoder, w.columns) for w in BOTH.words]
    assert found == [
        (0, "a", 1, (1,)),
        (1, "cat", 1, (2,)),
        (2, "hat", 1, (4,)),
        (3, "cat", 2, (1,)),
        (4, "a", 2, (2,)),
        (5, "blue", 2, (4,)),
        (6, "dog", 2, (5,)),
    ]
    # The end of the first text is a word of the second.
    assert BOTH.columns_of_kind() == {"start": (0,), "punctuation": (3,), "padding": (6, 7)}


@pytest.mark.parametrize(
    ("query", "options", "columns", "encoders"),
    [
        ("hat", {}, (4,), (1,)),
        ("dog", {}, (5,), (2,)),
        ("blue dog", {}, (4, 5), (2,)),
        ("cat", {}, (1, 2), (1, 2)),
        ("cat", {"encoder": 1}, (2,), (1,)),
        ("cat", {"encoder": 2}, (1,), (2,)),
        ("cat", {"occurrence": 1}, (1,), (2,)),
        ((0, 3), {}, (1, 2), (1,)),
        ((0, 3), {"encoder": 2}, (1,), (2,)),
        (5, {}, (4,), (2,)),
        (-1, {"encoder": 2}, (5,), (2,)),
        (BOTH.words[3], {}, (1,), (2,)),
    ],
)
def test_queries(query, options, columns, encoders):
    match = BOTH.find(query, **options)
    assert (match.columns, match.encoders) == (columns, encoders)


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("dog", {"encoder": 1}, "'dog' is not a word of the prompt 'a cat , hat'. Words: a, cat, "),
        ("cow", {}, "Words: a, cat, hat. In the second text encoder's: 'cow' is not a word of the"),
        ("cat", {"occurrence": 2}, "occurs twice in the prompt 'a cat , hat' and 'cat a , blue"),
        ("cat", {"encoder": 3}, "encoder= is 1 or 2, a text encoder's number; got 3."),
        ("cat", {"encoder": True}, "encoder= is 1 or 2, a text encoder's number; got True."),
        (0, {"encoder": 2}, "Word 0 is of the text of encoder 1, not of 2"),
        ((0, 12), {}, "not inside the prompt's 11 characters"),
        (BOTH.words[6], {"encoder": 1}, "is a word of another prompt"),
    ],
)
def test_queries_that_are_refused(query, options, message):
    with pytest.raises(WordError) as caught:
        BOTH.find(query, **options)
    assert message in str(caught.value)


def test_one_text_has_no_second_to_ask_for():
    one = BOTH.texts[0]
    assert one.find("cat", encoder=1) == one.find("cat")
    with pytest.raises(WordError, match="is one text for every text encoder"):
        one.find("cat", encoder=2)
    assert "encoder" not in repr(one.words[0]) and "further" not in repr(one)


def test_a_word_of_both_is_a_sum_and_says_so(attribution):
    with pytest.warns(RepeatedWordWarning, match=r"both text encoders \(encoder 1: characters 2-5"):
        both = attribution.word("cat")
    parts = [attribution.word("cat", encoder=encoder) for encoder in (1, 2)]
    torch.testing.assert_close(both.values, parts[0].values + parts[1].values)
    assert both.encoders == (1, 2) and both.mass(BOX) == attribution.region(BOX)["cat"]


def test_a_word_that_both_have_at_the_same_columns_has_one_map(attribution):
    same = replace(BOTH.texts[0], further=(prompt("a cat sat"),))
    heat = replace(attribution, prompt=same).word("cat")
    assert heat.columns == (2,) and heat.encoders == (1, 2)


def test_a_column_is_called_by_both_tokens(attribution):
    heat = attribution.column(4)
    assert (heat.text, heat.spans, heat.encoders) == ("hat and blue", ((8, 11), (8, 12)), (1, 2))
    assert attribution.column(5).encoders == (2,)


def test_answers_say_which_text_a_word_is_of(attribution):
    answer = attribution.region(BOX)
    assert {entry.text: entry.encoders for entry in answer} == {
        "a": (1, 2), "cat": (1, 2), "hat": (1,), "blue": (2,), "dog": (2,),
    }  # fmt: skip
    for entry in answer:
        assert answer[entry.text] == entry.score
    for shown in (str(answer), repr(answer), answer._repr_html_(), str(attribution.inside(BOX))):
        assert "dog (encoder 2)" in shown and "cat (encoders 1 and 2)" in shown
    assert {tuple(word["encoders"]) for word in answer.to_dict()["words"]} == {(1,), (2,), (1, 2)}
    assert "'a cat , hat' and 'cat a , blue dog'" in repr(attribution)
    assert attribution._repr_html_().count("<p ") == 2


def test_what_two_texts_need():
    with pytest.raises(InputError, match="one text or several"):
        replace(BOTH.texts[0], further=(BOTH,))
    with pytest.raises(InputError, match="these have 8 and 1 tokens"):
        replace(BOTH.texts[0], further=(Prompt("", BOTH.tokens[:1]),))


def rewritten(path: Path, change) -> Path:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    [name] = [name for name, value in metadata.items() if value.startswith("{")]
    header = json.loads(metadata[name])
    change(header)
    save_file(load_file(path), path, metadata | {name: json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(further=3), "the further texts of its prompt are not a list"),
        (lambda h: h.update(further=[3]), "a further text of its prompt is not an object"),
        (lambda h: h.update(further=h["further"] * 8), "its prompt has 9 texts"),
        (
            lambda h: h["further"][0].update(further=[{}]),
            "a further text of its prompt has further",
        ),
        (lambda h: h["further"][0].update(prompt=None), "one of them is not known"),
        (lambda h: h.update(prompt=None), "one of them is not known"),
        (lambda h: h["further"][0].update(prompt=[]), "its prompt is not a text"),
        (lambda h: h["further"][0]["tokens"].pop(), "a further text has 7 tokens for 8 columns"),
        (lambda h: h["further"][0]["tokens"].append(["", "end", 0, None]), "is not a token"),
        (
            lambda h: h["further"][0]["tokens"].__setitem__(1, ["cat", "text", 0, 99]),
            "lies outside",
        ),
        (lambda h: h.update(future=1), "its field 'future' is not known to this release"),
    ],
)
def test_files_are_checked(attribution, tmp_path, change, message):
    path = attribution.save(tmp_path / "two.safetensors")
    loaded = Attribution.load(path)
    assert loaded.prompt == BOTH and loaded.words == BOTH.words
    with pytest.raises(AttributionFileError, match=message):
        Attribution.load(rewritten(path, change))


def test_a_file_of_one_text_is_as_before(attribution, tmp_path):
    one = replace(attribution, prompt=BOTH.texts[0])
    path = one.save(tmp_path / "one.safetensors")
    with safe_open(path, "pt") as file:
        assert not any("further" in value for value in file.metadata().values())
    assert Attribution.load(path).prompt.further == ()
