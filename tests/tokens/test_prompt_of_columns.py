"""Columns of several text encoders as one prompt: words, queries by name, the rest, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffusers_rdaam import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.prompt import Token
from diffusers_rdaam.errors import InputError, RepeatedWordWarning, WordError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoder_columns import EncoderColumns
from diffusers_rdaam.tokens.prompt_of_columns import prompt_columns, prompt_from

BOX = (0, 0, 5, 4)


def pieces(text: str, columns: int, *, before: str = "", tail: int = 0) -> list[Piece]:
    """A start token if asked for, a token for each run between spaces, an end, padding."""
    found = [Piece(1, before, "start")] if before else []
    start = 0
    for part in text.split(" "):
        middle = max(1, len(part) - tail)
        for begin, end in ((0, middle), (middle, len(part))):
            if begin < end:
                found.append(Piece(9, part[begin:end], "text", start + begin, start + end))
        start += len(part) + 1
    found.append(Piece(2, "</s>", "end"))
    return (found + [Piece(0, "<pad>", "padding")] * columns)[:columns]


def clip(text: str, argument: str = "prompt") -> EncoderColumns:
    return EncoderColumns(
        "text_encoder", "clip", text, argument, tuple(pieces(text, 6, before="<s>"))
    )


def t5(text: str, argument: str = "prompt_3", cut: tuple = ()) -> EncoderColumns:
    """Its tokens are others: the last letter of a word is one."""
    return EncoderColumns(
        "text_encoder_3", "t5", text, argument, tuple(pieces(text, 8, tail=1)), 6, cut
    )


ONE = prompt_from([clip("a cat sat"), t5("a cat sat")])
TWO = prompt_from([clip("a cat sat"), t5("red cat")])


def test_one_word_has_columns_in_both():
    assert [(word.text, word.columns, word.encoder) for word in ONE.words] == [
        ("a", (1, 6), None),
        ("cat", (2, 7, 8), None),
        ("sat", (3, 9, 10), None),
    ]
    assert ONE.encoders == ("clip", "t5")
    assert [token.encoder for token in ONE.tokens] == ["clip"] * 6 + ["t5"] * 8
    assert ONE.columns_of_kind() == {"start": (0,), "end": (4, 11), "padding": (5, 12, 13)}


@pytest.mark.parametrize(
    ("query", "encoder", "columns"),
    [
        ("cat", None, (2, 7, 8)),
        ("cat", "clip", (2,)),
        ("cat", "t5", (7, 8)),
        ("a cat", "t5", (6, 7, 8)),
        (1, "t5", (7, 8)),
        ((2, 5), "clip", (2,)),
        (ONE.words[1], "t5", (7, 8)),
        ("cat", 1, (2, 7, 8)),
    ],
)
def test_columns_of_one_encoder(query, encoder, columns):
    assert ONE.find(query, encoder=encoder).columns == columns


def test_two_texts_have_their_words_each():
    assert [(word.text, word.columns, word.encoder) for word in TWO.words] == [
        ("a", (1,), 1),
        ("cat", (2,), 1),
        ("sat", (3,), 1),
        ("red", (6, 7), 2),
        ("cat", (8, 9), 2),
    ]
    assert TWO.find("cat").columns == (2, 8, 9)
    assert TWO.find("cat", encoder="t5").columns == TWO.find("cat", encoder=2).columns == (8, 9)
    assert TWO.find("cat", encoder="t5").encoders == (2,)
    # The end of the one text is a column of no word of the other.
    assert TWO.columns_of_kind()["end"] == (4, 10)
    with pytest.raises(WordError, match="'sat' is not a word of the prompt 'red cat'"):
        TWO.find("sat", encoder="t5")


@pytest.mark.parametrize(
    ("prompt", "encoder", "message"),
    [
        (ONE, "bert", "'bert' is not a text encoder of the prompt 'a cat sat'. Its text enc"),
        (prompt_from([clip("cat")]), "clip", "are not named by text encoders: one made all"),
        (TWO, 3, "is 1 or 2, a text encoder's number, or one of the names 'clip', 't5'; got 3"),
    ],
)  # fmt: skip
def test_an_encoder_that_is_not_there(prompt, encoder, message):
    with pytest.raises(WordError) as caught:
        prompt.find("cat", encoder=encoder)
    assert message in str(caught.value)


def test_a_word_that_one_encoder_did_not_see():
    long = prompt_from([clip("a b c d e cat"), t5("a b c d e cat")])
    assert long.find("cat").columns == (11, 12) and long.words[5].columns == (11, 12)
    with pytest.raises(WordError, match="last position that the text encoder 'clip' saw"):
        long.find("cat", encoder="clip")


def test_cut_is_what_no_encoder_was_given():
    lost = ((2, 5),)
    assert prompt_from([clip("a cat"), t5("a cat", cut=lost)]).cut == ()
    assert prompt_from([t5("a cat", cut=lost)]).cut == lost
    both = [t5("a cat", cut=((2, 5),)), t5("a cat", cut=((3, 5),))]
    assert prompt_from(both).cut == ((3, 4), (4, 5))


def test_some_columns_and_the_rest():
    encoders = [clip("a cat sat"), t5("a cat sat")]
    columns = prompt_columns(encoders)
    assert columns == (1, 2, 3, 6, 7, 8, 9, 10)
    some = prompt_from(encoders, columns=columns)
    assert [(token.column, token.position) for token in some.tokens] == [
        (0, 1), (1, 2), (2, 3), (3, 6), (4, 7), (5, 8), (6, 9), (7, 10), (8, None),
    ]  # fmt: skip
    assert some.tokens[-1] == Token(8, "(rest)", "rest")
    assert [word.columns for word in some.words] == [(0, 3), (1, 4, 5), (2, 6, 7)]
    assert some.columns_of_kind() == {"rest": (8,)}
    with pytest.raises(InputError, match="The text embedding has 14 columns; 14 is not one"):
        prompt_from(encoders, columns=(14,))


def test_two_texts_share_the_rest():
    encoders = [clip("a cat sat"), t5("red cat")]
    some = prompt_from(encoders, columns=prompt_columns(encoders))
    assert some.columns_of_kind() == {"rest": (7,)}
    assert [text.tokens[-1].kind for text in some.texts] == ["rest", "rest"]
    assert some.find("cat", encoder="t5").columns == (5, 6)


def test_a_template_is_a_special():
    body = (Piece(5, "Describe:", "template"), Piece(6, "cat", "text", 0, 3))
    found = prompt_from([EncoderColumns("text_encoder", "qwen", "cat", "prompt", body)])
    assert found.columns_of_kind() == {"template": (0,)} and found.words[0].columns == (1,)
    assert found.encoders == ()


@pytest.fixture
def attribution() -> Attribution:
    torch.manual_seed(0)
    encoders = [clip("a cat sat"), t5("red cat")]
    prompt = prompt_from(encoders, columns=prompt_columns(encoders))
    maps = torch.randn(len(prompt.tokens), 3, 4).softmax(dim=0)
    return Attribution(prompt, (Grid(maps, 2, ("attn",)),), (6, 8))


def test_answers_and_files(attribution, tmp_path: Path):
    with pytest.warns(RepeatedWordWarning, match="both text encoders"):
        whole = attribution.word("cat")
    parts = [attribution.word("cat", encoder=name) for name in ("clip", "t5")]
    torch.testing.assert_close(whole.values, parts[0].values + parts[1].values)
    answer = attribution.region(BOX)
    assert list(answer.special) == ["rest"] and "special tokens: rest 0." in str(answer)
    scores = sum(entry.score for entry in answer) + sum(answer.special.values())
    assert scores == pytest.approx(1.0)
    loaded = Attribution.load(attribution.save(tmp_path / "encoders"))
    assert loaded.prompt == attribution.prompt and loaded.prompt.encoders == ("clip", "t5")
    assert loaded.region(BOX).to_dict() == answer.to_dict()


def test_a_column_that_was_not_kept(attribution):
    with pytest.raises(InputError, match=r'the run kept those of the prompt alone.*columns="all"'):
        attribution.column(40)
    assert attribution.column(-1).text == "(rest)"
    assert attribution.column(5).text == "ca" and attribution.column(5).encoders == (2,)
