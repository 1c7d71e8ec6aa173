"""Tokens are columns; words are found in the text and joined to them by character spans."""

from __future__ import annotations

import copy

import pytest
from transformers import ByT5Tokenizer

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.alignment import align

LENGTH = 77


def kinds(prompt) -> list[str]:
    return [token.kind for token in prompt.tokens]


def columns(prompt) -> dict[str, tuple[int, ...]]:
    return {word.text: word.columns for word in prompt.words}


def spans(prompt) -> list[tuple[int, int]]:
    return [(token.start, token.end) for token in prompt.tokens if token.kind == "text"]


def test_columns_are_the_tokenizers(tokenizer):
    text = "a photo of a cat"
    prompt = align(tokenizer, text, LENGTH)
    ids = tokenizer(text, padding="max_length", max_length=LENGTH).input_ids
    assert len(prompt.tokens) == len(ids) == LENGTH
    assert [token.column for token in prompt.tokens] == list(range(LENGTH))
    assert [token.text for token in prompt.tokens][:7] == [
        "<|startoftext|>",
        "a",
        "photo",
        "of",
        "a",
        "cat",
        "<|endoftext|>",
    ]
    assert kinds(prompt) == ["start"] + ["text"] * 5 + ["end"] + ["padding"] * 70
    assert [word.columns for word in prompt.words] == [(1,), (2,), (3,), (4,), (5,)]
    assert spans(prompt) == [(0, 1), (2, 7), (8, 10), (11, 12), (13, 16)]


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_padding_is_told_by_the_attention_mask_not_by_its_id(tokenizer, pad):
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = pad
    prompt = align(padded, "cat!", LENGTH)
    assert kinds(prompt) == ["start", "text", "text", "end"] + ["padding"] * 73
    assert prompt.tokens[-1].text == pad
    assert prompt.columns_of_kind() == {
        "start": (0,),
        "punctuation": (2,),
        "end": (3,),
        "padding": tuple(range(4, 77)),
    }


def test_punctuation_and_white_space(tokenizer):
    text = "a  red\n\tcat, (blue) dog's ball: 42!"
    prompt = align(tokenizer, text, LENGTH)
    words = columns(prompt)
    assert list(words) == ["a", "red", "cat", "blue", "dog's", "ball", "42"]
    assert all(words.values())
    joined = {c for word in words.values() for c in word}
    rest = [
        token.text for token in prompt.tokens if token.kind == "text" and token.column not in joined
    ]
    assert rest == [",", "(", ")", ":", "!"]
    for word in prompt.words:
        covered = [text[t.start : t.end] for t in prompt.tokens if t.column in word.columns]
        assert "".join(covered) == word.text


def test_several_tokens_a_word(tokenizer):
    prompt = align(tokenizer, "an astronautical catfish", LENGTH)
    words = columns(prompt)
    assert words["an"] == (1,)
    assert len(words["astronautical"]) > 1 and len(words["catfish"]) > 1
    flat = [column for word in words.values() for column in word]
    assert flat == list(range(1, len(flat) + 1))
    assert prompt.find("astronautical").columns == words["astronautical"]


def test_upper_case_keeps_the_original_text(tokenizer):
    prompt = align(tokenizer, "A RED Cat", LENGTH)
    lower = align(tokenizer, "a red cat", LENGTH)
    assert [word.text for word in prompt.words] == ["A", "RED", "Cat"]
    assert spans(prompt) == spans(lower)
    assert [t.text for t in prompt.tokens] == [t.text for t in lower.tokens]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a \N{CAT FACE} hat", ["a", "\N{CAT FACE}", "hat"]),
        ("un café noir", ["un", "café", "noir"]),
        (
            "un cafe\N{COMBINING ACUTE ACCENT} noir",
            ["un", "cafe\N{COMBINING ACUTE ACCENT}", "noir"],
        ),
        ("Straße 猫 ba", ["Straße", "猫", "ba"]),
        ("naïve İstanbul", ["naïve", "İstanbul"]),
    ],
)
def test_unicode_words_have_all_their_columns(tokenizer, text, words):
    prompt = align(tokenizer, text, LENGTH)
    assert [word.text for word in prompt.words] == words
    flat = [column for word in prompt.words for column in word.columns]
    count = kinds(prompt).count("text")
    assert flat == list(range(1, count + 1)), "every text token belongs to just one word, in order"


def test_tokens_of_one_emoji_share_its_span(tokenizer):
    prompt = align(tokenizer, "a \N{CAT FACE} hat", LENGTH)
    face = prompt.find("\N{CAT FACE}")
    assert len(face.columns) == 4
    assert {(prompt.tokens[c].start, prompt.tokens[c].end) for c in face.columns} == {(2, 3)}


def test_a_special_token_that_somebody_typed(tokenizer):
    text = "a <|endoftext|> cat"
    prompt = align(tokenizer, text, LENGTH)
    assert kinds(prompt) == ["start", "text", "text", "text", "end"] + ["padding"] * 72
    assert (prompt.tokens[2].start, prompt.tokens[2].end) == (2, 15)
    assert prompt.find("<|endoftext|>").columns == (2,)
    assert prompt.find("cat").columns == (3,)


def test_the_empty_prompt(tokenizer):
    prompt = align(tokenizer, "", LENGTH)
    assert kinds(prompt) == ["start", "end"] + ["padding"] * 75
    assert prompt.words == () and prompt.lost_words == ()


def test_what_does_not_fit_is_lost(tokenizer):
    text = " ".join(["a"] * 74 + ["red", "cat", "hat"])
    prompt = align(tokenizer, text, LENGTH)
    assert kinds(prompt) == ["start"] + ["text"] * 75 + ["end"]
    assert [word.text for word in prompt.lost_words] == ["cat", "hat"]
    assert prompt.find("red").columns == (75,)
    exact = align(tokenizer, " ".join(["a"] * 75), LENGTH)
    assert kinds(exact)[-2:] == ["text", "end"] and exact.lost_words == ()


def test_embeddings_in_parts(tokenizer):
    text = " ".join(["a"] * 74 + ["red", "cat", "hat"])
    prompt = align(tokenizer, text, 2 * LENGTH)
    first = ["start"] + ["text"] * 75 + ["end"]
    assert kinds(prompt) == [*first, "start", "text", "text", "end"] + ["padding"] * 73
    assert prompt.lost_words == ()
    assert prompt.find("red").columns == (75,)
    assert prompt.find("cat").columns == (78,)
    assert prompt.tokens[77].text == tokenizer.bos_token
    assert [prompt.tokens[c].text for c in (76, 80)] == [tokenizer.eos_token] * 2
    short = align(tokenizer, "cat", 2 * LENGTH)
    assert kinds(short)[77:80] == ["start", "end", "padding"]
    long = align(tokenizer, " ".join(["a"] * 150 + ["cat"]), 2 * LENGTH)
    assert [word.text for word in long.lost_words] == ["cat"]


def test_embeddings_without_padding(tokenizer):
    prompt = align(tokenizer, "a red cat", 5)
    assert kinds(prompt) == ["start", "text", "text", "text", "end"]
    assert columns(prompt) == {"a": (1,), "red": (2,), "cat": (3,)}


def test_a_length_that_fits_nothing(tokenizer):
    with pytest.raises(InputError) as error:
        align(tokenizer, "a red cat", 1)
    assert str(error.value) == (
        "The text has 5 tokens, 2 of them special, and the embedding 1 columns, which it does not "
        "fit into. Give the text that the embedding was made from."
    )


def test_a_tokenizer_without_offsets():
    with pytest.raises(InputError) as error:
        align(ByT5Tokenizer(), "a red cat", LENGTH)
    assert str(error.value) == (
        "ByT5Tokenizer gives no character offsets, so words cannot be found. Load the pipeline's "
        "tokenizer with transformers 5 or as its Fast class."
    )


def test_the_users_tokenizer_is_left_as_it_was(tokenizer):
    before = (tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side)
    align(tokenizer, "a red cat " * 60, LENGTH)
    align(tokenizer, "a red cat", 2 * LENGTH)
    after = (tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side)
    assert after == before
    assert len(tokenizer("a red cat").input_ids) == 5
