"""Layouts of a text in an embedding's columns: every tokenizer, and every number of columns."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.alignment import align
from diffusers_rdaam.tokens.column_layouts import (
    is_ambiguous,
    layouts_of,
    layouts_of_parts,
    tokenized,
)

WORDS = ["<pad>", "</s>", "<s>", "<unk>", "<cls>", "a", "red", "cat", "near", "house", "in", "hat"]


def word_tokenizer(template: str = "$A </s>", length: int = 12, **settings: Any) -> Any:
    """A tokenizer of whole words whose special tokens are as in the template."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = [(name, WORDS.index(name)) for name in ("</s>", "<s>", "<cls>")]
    inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=length, **(names | settings)
    )


TEMPLATES = {
    "T5": ("$A </s>", [], ["end"]),
    "no special tokens": ("$A", [], []),
    "no end": ("<s> $A", ["start"], []),
    "CLIP": ("<s> $A </s>", ["start"], ["end"]),
    "several": ("<s> <cls> $A </s> </s>", ["start"] * 2, ["end"] * 2),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("columns", [4, 5, 6, 9, 12])
@pytest.mark.parametrize("text", ["red cat", "a red cat in a hat near a house", ""])
@pytest.mark.parametrize("name", TEMPLATES)
def test_special_tokens_are_those_of_the_tokenizers_mask(name, text, columns, side):
    template, start, end = TEMPLATES[name]
    tokenizer = word_tokenizer(template, padding_side=side, truncation_side=side)
    prompt = align(tokenizer, text, columns)
    wanted = tokenizer(text, padding="max_length", max_length=columns, truncation=True)
    names = tokenizer.convert_ids_to_tokens(wanted.input_ids)
    assert [token.text for token in prompt.tokens] == names
    kinds = [token.kind for token in prompt.tokens]
    assert [kind != "padding" for kind in kinds] == [bool(x) for x in wanted.attention_mask]
    seen = [kind for kind in kinds if kind != "padding"]
    texts = seen.count("text")
    assert seen == start + ["text"] * texts + end
    for token in prompt.tokens:
        if token.kind == "text":
            assert text[token.start : token.end] == token.text
    lost = text.split()[:-texts] if side == "left" and texts else text.split()[texts:]
    assert [word.text for word in prompt.lost_words] == lost


def test_columns_below_the_length_of_the_tokenizer_are_served():
    tokenizer = word_tokenizer(length=512)
    assert align(tokenizer, "red cat", 256).find("cat").columns == (1,)
    unlimited = word_tokenizer(length=int(1e30))
    assert align(unlimited, "red cat", 256).find("cat").columns == (1,)
    no_padding = word_tokenizer(pad_token=None)
    assert align(no_padding, "red cat", 5).tokens[4].kind == "padding"


def test_special_tokens_that_somebody_typed_are_text():
    prompt = align(word_tokenizer(), "</s> red <pad> cat", 8)
    assert [token.kind for token in prompt.tokens] == ["text"] * 4 + ["end"] + ["padding"] * 3


def names_of(tokenizer: Any, text: str, columns: int) -> list[str]:
    return [layout.name for layout in layouts_of(tokenized(tokenizer, text), columns)]


CLIP = word_tokenizer("<s> $A </s>", length=6, pad_token="</s>")
SEVEN = "a red cat in a hat near"


@pytest.mark.parametrize(
    ("columns", "first", "kinds"),
    [
        (12, "windows", "sttttesttte."),
        (9, "cut in windows", "sttttttte"),
        (10, "windows", "sttttestte"),
        (11, "windows", "sttttesttte"),
        (18, "windows", "sttttesttte.se...."),
    ],
)
def test_more_columns_than_a_window_has(columns, first, kinds):
    layout = layouts_of(tokenized(CLIP, SEVEN), columns)[0]
    assert layout.name == f"{first}, padding"
    letters = {"start": "s", "end": "e", "text": "t", "padding": "."}
    assert "".join(letters[token.kind] for token in layout.prompt.tokens) == kinds
    assert [len(window) for window in layout.windows] == [6] * (columns // 6) + [columns % 6] * (
        columns % 6 > 0
    )


def test_special_tokens_at_the_ends_alone():
    layout = next(
        layout
        for layout in layouts_of(tokenized(CLIP, SEVEN), 10)
        if layout.name.startswith("special tokens at the ends")
    )
    kinds = [token.kind for token in layout.prompt.tokens]
    assert kinds == ["start"] + ["text"] * 7 + ["end", "padding"]
    assert layout.kept == (0, 1, 2, 3, 4, 7, 8, 9, 10, 11)
    assert [len(window) for window in layout.windows] == [6, 6]


def test_padding_that_is_not_the_end_token_may_be_written_otherwise():
    text = tokenized(word_tokenizer("<s> $A </s>", length=6), "red cat")
    pieces = {
        layout.name: [token.text for token in layout.prompt.tokens][3:]
        for layout in layouts_of(text, 6)
    }
    assert pieces == {
        "one window, padding": ["</s>", "<pad>", "<pad>"],
        "one window, end": ["</s>", "</s>", "</s>"],
        "one window, end last": ["<pad>", "<pad>", "</s>"],
    }
    assert names_of(CLIP, "red cat", 6) == ["one window, padding"]


@pytest.mark.parametrize(
    ("parts", "columns", "name", "words"),
    [
        (["red cat", "a hat"], 12, "parts", {"red": 1, "cat": 2, "a": 7, "hat": 8}),
        (["red cat", "a hat"], 18, "parts in windows", {"red": 1, "cat": 2, "a": 7, "hat": 8}),
        (["a red cat near house", "hat"], 18, "parts in windows", {"house": 7, "hat": 13}),
        (["a red cat near house", "hat"], 12, "parts", {"near": 4, "hat": 7}),
        (["red cat", "a hat"], 8, "parts", {"red": 1, "cat": 2, "a": 5, "hat": 6}),
        (["red cat", "hat"], 7, "parts without padding", {"red": 1, "cat": 2, "hat": 5}),
        (["red", "cat", "hat"], 18, "parts", {"red": 1, "cat": 7, "hat": 13}),
    ],
)
def test_parts(parts, columns, name, words):
    layout = layouts_of_parts([tokenized(CLIP, part) for part in parts], columns)[0]
    assert layout.name == f"{name}, padding" and len(layout.prompt.tokens) == columns
    assert layout.prompt.text == "\n".join(parts)
    for word, column in words.items():
        assert layout.prompt.find(word).columns == (column,)
    seen = {word.text for word in layout.prompt.words if word.columns}
    assert {word.text for word in layout.prompt.lost_words} == set(" ".join(parts).split()) - seen


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("red cat", 1, "The text has 4 tokens, 2 of them special, and the embedding 1 columns"),
        (SEVEN, 7, "The text has 9 tokens, 2 of them special, and the embedding 7 columns"),
    ],
)
def test_a_text_that_does_not_fit(text, columns, message):
    with pytest.raises(InputError) as caught:
        align(CLIP, text, columns)
    assert str(caught.value) == (
        f"{message}, which it does not fit into. Give the text that the embedding was made from."
    )


def test_parts_that_do_not_fit():
    with pytest.raises(InputError) as caught:
        layouts_of_parts([tokenized(CLIP, part) for part in ("red cat", "hat")], 11)
    assert str(caught.value) == (
        "The 2 parts of the text have 4, 3 tokens and begin a window each, but the embedding has "
        "11 columns. Give the parts that it was made from."
    )


@pytest.mark.parametrize(
    ("text", "columns", "unsure"),
    [(SEVEN, 12, True), ("red cat", 12, False), (SEVEN, 6, False), (SEVEN, 9, False)],
)
def test_ambiguous(text, columns, unsure):
    assert is_ambiguous(tokenized(CLIP, text), columns) is unsure


def test_words_of_which_only_a_part_was_seen(tokenizer):
    text = " ".join(["a"] * 74 + ["astronautical", "cat"])
    prompt = align(tokenizer, text, 77)
    assert [word.text for word in prompt.partly_seen_words] == ["astronautical"]
    assert [word.text for word in prompt.lost_words] == ["cat"]
    # The bytes of one character, of which the first fit.
    bytes_of_one = align(tokenizer, " ".join(["a"] * 74) + " \N{CAT FACE}", 77)
    assert [word.text for word in bytes_of_one.partly_seen_words] == ["\N{CAT FACE}"]
    assert align(tokenizer, text, 154).partly_seen_words == ()
    left = copy.deepcopy(tokenizer)
    left.truncation_side = "left"
    prompt = align(left, "astronautical " + " ".join(["a"] * 73), 77)
    assert [word.text for word in prompt.partly_seen_words] == ["astronautical"]


@pytest.mark.parametrize("length", [0, -1, None, "77"])
def test_a_tokenizer_without_a_length(length):
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = length
    said = rf"PreTrainedTokenizerFast has {length!r} as model_max_length, where the number of tok"
    with pytest.raises(InputError, match=said.replace("PreTrainedTokenizerFast", r"\w+")):
        align(tokenizer, "a red cat", 8)
