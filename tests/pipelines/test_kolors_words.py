"""Words of Kolors: columns padded on the left, pieces laid along the text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import torch
from standin_sentencepiece import chatglm_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from toys import ALL_CASES, PROMPT, call, toy

from diffusers_rdaam.errors import InputError, NotRecordedWarning, PromptTruncatedWarning
from diffusers_rdaam.tokens.alignment import align
from diffusers_rdaam.tokens.chatglm import align_chatglm, spans_of_pieces

KOLORS = ALL_CASES["Kolors"]
TEXTS = [
    PROMPT,
    "A red cat, near the house",
    "  two \t blue\ndogs ",
    "a café and a 猫 on the mat 🐱!",
    "unknownword a red",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("columns", [256, 48, 5, 2])
def test_columns_are_those_of_the_encoder(text, columns):
    tokenizer = chatglm_tokenizer()
    encoded = tokenizer(text, padding="max_length", max_length=columns, truncation=True)
    prompt = align(tokenizer, text, columns)
    assert prompt == align_chatglm(tokenizer, text, columns)
    assert len(prompt.tokens) == len(encoded.input_ids) == columns
    kinds = [token.kind for token in prompt.tokens]
    assert [kind != "padding" for kind in kinds] == [bool(x) for x in encoded.attention_mask]
    assert kinds.count("start") == 2 and kinds == sorted(
        kinds, key=["padding", "start", "text"].index
    )
    known = [
        (token, index)
        for token, index in zip(prompt.tokens, encoded.input_ids, strict=True)
        if token.kind == "text" and index > 258
    ]
    for token, index in known:
        piece = tokenizer.convert_ids_to_tokens(index).replace("\u2581", "")
        assert text[token.start : token.end] == piece
    assert known or columns == 2 or not text.strip() or columns == 5


@pytest.mark.parametrize(
    ("text", "word", "pieces"),
    [
        (PROMPT, "cat", ["cat"]),
        ("a café and", "café", ["", "c", "a", "f", "<0xC3>", "<0xA9>"]),
        ("on 猫 mat", "猫", ["", "<0xE7>", "<0x8C>", "<0xAB>"]),
    ],
)
def test_a_word_has_the_columns_of_its_pieces(text, word, pieces):
    prompt = align(chatglm_tokenizer(), text, 64)
    columns = prompt.find(word).columns
    assert [prompt.tokens[column].text for column in columns] == [p for p in pieces if p]


def test_pieces_of_another_tokenizer_with_offsets():
    """The spans are those that a tokenizer with offsets tells, apart from the spaces' own."""
    vocabulary = [("<unk>", 0.0), ("\u2581", -3.0)] + [(c, -4.0) for c in "abcdehnorstu"]
    vocabulary += [("\u2581red", -2.0), ("\u2581ca", -2.0), ("house", -2.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    text = "a red cat  near houses"
    encoding = tokenizer.encode(text)
    for piece, told, span in zip(
        encoding.tokens, encoding.offsets, spans_of_pieces(text, encoding.tokens), strict=True
    ):
        if piece.strip("\u2581"):
            assert text[slice(*told)].strip() == text[slice(*span)] == piece.replace("\u2581", "")
            assert span[1] == told[1]
        else:
            assert span[0] == span[1]


def test_compatible_characters():
    assert spans_of_pieces("\ufb01ve \uff21", ["\u2581five", "\u2581A"]) == [(0, 3), (4, 5)]


def test_pieces_that_do_not_spell_the_text():
    with pytest.raises(InputError) as error:
        spans_of_pieces("a red cat", ["\u2581a", "\u2581blue"])
    assert str(error.value) == (
        "The tokenizer wrote '\u2581blue' where the text 'a red cat' goes on otherwise, so its "
        "words cannot be found. Ask for columns by number with attribution.column(index)."
    )
    with pytest.raises(InputError) as error:
        spans_of_pieces("a red cat", ["\u2581a"])
    assert str(error.value) == (
        "The tokenizer's pieces end before 'red cat' of the text 'a red cat', so its words cannot "
        "be found. Ask for columns by number with attribution.column(index)."
    )


def embeddings(pipe, **settings):
    with torch.no_grad():
        text, negative, pooled, negative_pooled = pipe.encode_prompt(
            PROMPT, device="cpu", **settings
        )
    given = {"prompt_embeds": text, "negative_prompt_embeds": negative}
    given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    return given | {"attribution_prompt": PROMPT}


def test_fewer_columns():
    _, ours = toy(KOLORS)
    attribution = call(KOLORS, ours, None, **embeddings(ours, max_sequence_length=20)).attribution
    assert len(attribution.prompt.tokens) == 20
    assert [word.text for word in attribution.words] == PROMPT.split()
    (column,) = attribution.prompt.find("cat").columns
    assert column == 20 - 6 + 2
    np.testing.assert_array_equal(attribution.word("cat").values, attribution.column(column).values)
    with pytest.warns(PromptTruncatedWarning, match="no heat map: near, a, house"):
        call(KOLORS, ours, None, **embeddings(ours, max_sequence_length=5))


def test_embeddings_with_their_text():
    _, ours = toy(KOLORS)
    plain = call(KOLORS, ours).attribution
    told = call(KOLORS, ours, None, **embeddings(ours)).attribution
    assert told.prompt == plain.prompt
    for one, other in zip(told.grids, plain.grids, strict=True):
        assert torch.equal(one.maps, other.maps)


@pytest.mark.parametrize(
    "text", ["cat，dog", "20℃", "½ cup", "Ａ cafe\u0301", "a\u3000red cat", "a´b"]
)
def test_bytes_of_the_raw_text_or_of_the_normalised_one(text):
    for spelt in (text, unicodedata.normalize("NFKC", text)):
        letters = "".join(spelt.split(" ")).encode()
        spans = spans_of_pieces(text, [f"<0x{byte:02X}>" for byte in letters])
        assert len(spans) == len(letters)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        last = len(text) - 1 - (text.endswith("\u0301") and spelt != text)
        assert spans[-1] == (last, len(text))


def test_a_text_with_another_space():
    stock, ours = toy(KOLORS)
    text = "a\u3000red cat"
    output = call(KOLORS, ours, text)
    assert [word.text for word in output.attribution.words] == ["a", "red", "cat"]
    assert output.images[0].tobytes() == call(KOLORS, stock, text).images[0].tobytes()


def test_a_text_that_the_pieces_do_not_spell_leaves_the_image(monkeypatch):
    stock, ours = toy(KOLORS)
    text = "A Red cat"
    pieces = ours.tokenizer._tokenize
    monkeypatch.setattr(ours.tokenizer, "_tokenize", lambda text: pieces(text.lower()))
    with pytest.warns(NotRecordedWarning, match="so its words cannot be found"):
        output = call(KOLORS, ours, text)
    assert output.images[0].tobytes() == call(KOLORS, stock, text).images[0].tobytes()
