"""Which columns a query means, and what is said where it means none."""

from __future__ import annotations

import contextlib
import time

import pytest

from diffusers_rdaam.attribution.prompt import Match, Prompt, Token, Word
from diffusers_rdaam.errors import InputError, PromptTruncatedWarning, WordError
from diffusers_rdaam.pipelines.assemble import _warn_of_lost_words

TEXT = "a cat with blue eyes, a hat"


@pytest.fixture
def prompt(make_prompt) -> Prompt:
    # <start> a cat wit h blu e eye s , a hat <end> <pad> <pad>
    return make_prompt(TEXT)


def test_words_and_their_columns(prompt):
    assert [(word.text, word.columns) for word in prompt.words] == [
        ("a", (1,)), ("cat", (2,)), ("with", (3, 4)), ("blue", (5, 6)), ("eyes", (7, 8)),
        ("a", (10,)), ("hat", (11,)),
    ]  # fmt: skip
    assert [word.index for word in prompt.words] == list(range(7))
    assert prompt.lost_words == ()


def test_a_token_that_stands_for_several_words_is_one():
    text = "a <cat-toy> and cat"
    toy = [Token(column, f"<cat-toy>_{column}", "text", 2, 11) for column in (2, 3)]
    rest = (Token(4, "and", "text", 12, 15), Token(5, "cat", "text", 16, 19))
    tokens = (Token(0, "<start>", "start"), Token(1, "a", "text", 0, 1), *toy, *rest)
    words = Prompt(text, tokens).words
    assert [(word.text, word.columns) for word in words] == [
        ("a", (1,)), ("<cat-toy>", (2, 3)), ("and", (4,)), ("cat", (5,)),
    ]  # fmt: skip
    assert Prompt(text, tokens).find("<cat-toy>").columns == (2, 3)


def prompt_of_spans(text: str, *spans: tuple[int, int]) -> Prompt:
    tokens = [
        Token(column, text[start:end], "text", start, end)
        for column, (start, end) in enumerate(spans)
    ]
    return Prompt(text, tuple(tokens))


def words_and_columns(prompt: Prompt) -> list[tuple[str, tuple[int, ...]]]:
    return [(word.text, word.columns) for word in prompt.words]


PLACEHOLDERS = [
    (("<circle>, a circle", (0, 8), (8, 9), (10, 11), (12, 18)), "circle", "<circle>", (3,)),
    (("<a-circle> circle", (0, 10), (0, 10), (11, 17)), "circle", "<a-circle>", (2,)),
    (("<circle_toy>circle", (0, 12), (12, 18)), "circle", "<circle_toy>", (1,)),
    (("my<circle>circle", (0, 2), (2, 10), (10, 16)), "circle", "<circle>", (2,)),
    (("sks-circle circle", (0, 10), (11, 17)), "circle", "sks-circle", (1,)),
    (("a-circlecircle", (0, 8), (8, 14)), "circle", "a-circle", (1,)),
    (("[circle] <circle> circle", (0, 8), (9, 17), (18, 24)), "circle", "<circle>", (2,)),
]


@pytest.mark.parametrize(("tokens", "word", "name", "columns"), PLACEHOLDERS)
def test_a_match_within_a_placeholder_does_not_count(tokens, word, name, columns):
    text, *spans = tokens
    prompt = prompt_of_spans(text, *spans)
    assert prompt.find(word).columns == columns
    listed = dict(words_and_columns(prompt))
    assert listed[word] == columns
    for known in prompt.words:
        assert prompt.find(known.text).columns == known.columns == prompt.find(known).columns
    assert name in listed and not set(listed[name]) & set(columns)


@pytest.mark.parametrize("text", ["a <circle-toy>", "<circle-toy>_", "my<circle-toy>s"])
@pytest.mark.parametrize("query", ["circle", "toy", "circle-toy", "<circle"])
def test_a_word_that_is_only_within_a_placeholder(text, query):
    start = text.index("<")
    before, after = (0, start), (start + 12, len(text))
    spans = [span for span in (before, (start, start + 12), after) if span[0] < span[1]]
    with pytest.raises(WordError) as caught:
        prompt_of_spans(text, *spans).find(query)
    assert str(caught.value) == (
        f"{query!r} occurs in the prompt only within '<circle-toy>', which the tokenizer knows as "
        "one token, so it is not a word there. Ask for '<circle-toy>'."
    )


def test_ordinary_tokens_with_punctuation_are_not_placeholders():
    prompt = prompt_of_spans("l'eau (froide) U.S.", (0, 2), (2, 5), (5, 7), (7, 13), (13, 14),
                             (15, 19))  # fmt: skip
    assert [text for text, _ in words_and_columns(prompt)] == ["l'eau", "froide", "U.S."]


def test_a_sentence_without_spaces_is_divided_at_its_tokens():
    # One character, two of one token, three byte tokens of one character, two that share one.
    text = "猫草地在红色"
    prompt = prompt_of_spans(
        text, (0, 1), (1, 3), (3, 4), (3, 4), (3, 4), (4, 5), (4, 6), (5, 6)
    )  # fmt: skip
    assert words_and_columns(prompt) == [
        ("猫", (0,)), ("草地", (1,)), ("在", (2, 3, 4)), ("红色", (5, 6, 7)),
    ]  # fmt: skip
    assert prompt.find("猫草地").columns == (0, 1)
    assert prompt.find("地在").columns == (1, 2, 3, 4)
    assert [word.text for word in prompt_of_spans(text, (0, 1)).words] == ["猫", "草地在红色"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("สีแดง", ["สี", "แ", "ด", "ง"]),
        ("ក្មេង", ["ក្មេ", "ង"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("がき", ["が", "き"]),
        ("ｶﾞｷ", ["ｶﾞ", "ｷ"]),
        ("4k猫がTシャツ", ["4k", "猫", "が", "T", "シ", "ャ", "ツ"]),
        ("고양이 猫", ["고양이", "猫"]),
        ("a cat", ["a", "cat"]),
    ],
)
def test_marks_stay_with_their_character(text, words):
    spans = [(i, i + 1) for i, character in enumerate(text) if not character.isspace()]
    prompt = prompt_of_spans(text, *spans)
    assert [word.text for word in prompt.words] == words
    for word in prompt.words:
        assert set(word.columns) <= set(prompt.find(word.text).columns)


def test_tokens_with_the_space_before_them():
    prompt = prompt_of_spans("a 猫 在", (0, 1), (1, 3), (3, 5))
    assert words_and_columns(prompt) == [("a", (0,)), ("猫", (1,)), ("在", (2,))]


def test_tags(make_prompt):
    prompt = make_prompt("blue_eyes, blue eyes")
    assert [word.text for word in prompt.words] == ["blue", "eyes", "blue", "eyes"]
    for query in ("blue eyes", "blue_eyes"):
        assert prompt.find(query).spans == ((0, 9), (11, 20))
    assert prompt.find("eyes").columns == tuple(
        column for word in prompt.words if word.text == "eyes" for column in word.columns
    )


def test_a_word_that_was_cut():
    tokens = (Token(0, "a", "text", 0, 1), Token(1, "cat", "text", 2, 5))
    prompt = Prompt("a catfish is", tokens, cut=((5, 9), (10, 12)))
    assert [word.text for word in prompt.partly_seen_words] == ["catfish"]
    assert [word.text for word in prompt.lost_words] == ["is"]
    assert Prompt("a catfish is", tokens).partly_seen_words == ()
    assert prompt == Prompt("a catfish is", tokens)


@pytest.mark.parametrize("wide", [0, 3000])
def test_long_prompts_of_many_tokens_take_linear_time(wide):
    text = "ab " * 20_000
    spans = [(0, len(text) - 1)] * wide + [(6 * i, 6 * i + 2) for i in range(8192 - wide)]
    tokens = tuple(Token(i, "x", "text", *span) for i, span in enumerate(spans))
    prompt = Prompt(text, tokens)
    before = time.process_time()
    assert len(prompt.words) == (1 if wide else 20_000)
    assert len(prompt.columns_of([(0, 5), (12, 14)])) == wide + 2
    prompt.columns_of_kind(), prompt.lost_words, prompt.partly_seen_words
    for query in ("ab", "zebra"):
        with contextlib.suppress(WordError):
            prompt.find(query)
    # Where each word asks each token it takes over 15 seconds.
    assert time.process_time() - before < 5


def test_errors_about_long_prompts_are_short(make_prompt):
    prompt = make_prompt(" ".join(f"w{i}x" for i in range(3000)))
    with pytest.raises(WordError) as caught:
        prompt.find("w3xx")
    assert len(str(caught.value)) < 2000
    assert str(caught.value).endswith("w98x, w99x, …. Did you mean 'w3x'?")


def test_columns_that_are_of_no_word(prompt):
    assert prompt.columns_of_kind() == {
        "start": (0,), "punctuation": (9,), "end": (12,), "padding": (13, 14),
    }  # fmt: skip
    assert Prompt.without_text(3).columns_of_kind() == {"unknown": (0, 1, 2)}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("cat", Match("cat", ((2, 5),), (2,))),
        ("CAT", Match("cat", ((2, 5),), (2,))),
        ("blue  eyes", Match("blue eyes", ((11, 20),), (5, 6, 7, 8))),
        ("eyes,", Match("eyes,", ((16, 21),), (7, 8, 9))),
        (",", Match(",", ((20, 21),), (9,))),
        ("a", Match("a", ((0, 1), (22, 23)), (1, 10))),
        (1, Match("cat", ((2, 5),), (2,))),
        (0, Match("a", ((0, 1),), (1,))),
        (-1, Match("hat", ((24, 27),), (11,))),
        (-7, Match("a", ((0, 1),), (1,))),
        ((2, 5), Match("cat", ((2, 5),), (2,))),
        ((3, 4), Match("a", ((3, 4),), (2,))),
        ((0, 27), Match(TEXT, ((0, 27),), tuple(range(1, 12)))),
    ],
)
def test_find(prompt, query, wanted):
    assert prompt.find(query) == wanted


@pytest.mark.parametrize(("occurrence", "column"), [(0, 1), (1, 10)])
def test_occurrence(prompt, occurrence, column):
    assert prompt.find("a", occurrence=occurrence).columns == (column,)


def test_a_word_finds_itself(prompt):
    for word in prompt.words:
        assert prompt.find(word).columns == word.columns


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "cats",
            f"'cats' is not a word of the prompt {TEXT!r}. Words: a, cat, with, blue, eyes, hat. "
            "Did you mean 'cat'?",
        ),
        (
            "zebra",
            f"'zebra' is not a word of the prompt {TEXT!r}. Words: a, cat, with, blue, eyes, hat.",
        ),
        ("", f"'' is not a word of the prompt {TEXT!r}. Words: a, cat, with, blue, eyes, hat."),
        (7, f"The prompt {TEXT!r} has 7 words; 7 is not the index of one."),
        (-8, f"The prompt {TEXT!r} has 7 words; -8 is not the index of one."),
        ((5, 5), "The span (5, 5) is not inside the prompt's 27 characters, or is empty."),
        ((5, 2), "The span (5, 2) is not inside the prompt's 27 characters, or is empty."),
        ((-1, 2), "The span (-1, 2) is not inside the prompt's 27 characters, or is empty."),
        ((0, 28), "The span (0, 28) is not inside the prompt's 27 characters, or is empty."),
        *(
            (
                query,
                f"{query!r} is not a word. Give a word or phrase, the index of a word, or a "
                "(start, end) span of characters.",
            )
            for query in (
                None,
                True,
                1.0,
                (1, 2, 3),
                (1,),
                (),
                ("a", "b"),
                (0.0, 3.0),
                [None, 2],
                object,
            )
        ),
        ((1, 2), "No token stands for ' ' in the prompt " + repr(TEXT) + "."),
        (
            Word(1, "dog", 2, 5, (2,)),
            "Word(index=1, text='dog', start=2, end=5, columns=(2,)) is a word of another prompt, "
            f"not of {TEXT!r}.",
        ),
        (
            Word(1, "dog", 200, 203, (2,)),
            "Word(index=1, text='dog', start=200, end=203, columns=(2,)) is a word of another "
            f"prompt, not of {TEXT!r}.",
        ),
    ],
)
def test_what_is_not_in_the_prompt(prompt, query, text):
    with pytest.raises(WordError) as caught:
        prompt.find(query)
    assert str(caught.value) == text


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("query", "occurrence", "text"),
    [
        ("a", 2, f"'a' occurs twice in the prompt {TEXT!r}, so occurrence= lies in 0 to 1; "
         "got 2."),
        ("cat", 1, f"'cat' occurs once in the prompt {TEXT!r}, so occurrence= lies in 0 to 0; "
         "got 1."),
        ("a", -1, f"'a' occurs twice in the prompt {TEXT!r}, so occurrence= lies in 0 to 1; "
         "got -1."),
        ("a", True, "occurrence= is a whole number from 0; got True."),
        ("a", 0.0, "occurrence= is a whole number from 0; got 0.0."),
        (1, 0, "occurrence= goes with a word or phrase, not with 1."),
        ((0, 1), 0, "occurrence= goes with a word or phrase, not with (0, 1)."),
    ],
)  # fmt: skip
def test_bad_occurrence(prompt, query, occurrence, text):
    with pytest.raises(WordError) as caught:
        prompt.find(query, occurrence=occurrence)
    assert str(caught.value) == text


def test_words_that_were_cut_off_in_front():
    tokens = (Token(0, "cat", "text", 2, 5), Token(1, "sits", "text", 6, 10))
    prompt = Prompt("a cat sits", tokens)
    with pytest.raises(WordError) as caught:
        prompt.find("a")
    assert str(caught.value) == (
        "'a' stands before the first position whose token the pipeline kept, so it has no column. "
        "Begin the prompt with other words."
    )
    with pytest.warns(PromptTruncatedWarning) as warned:
        _warn_of_lost_words(prompt)
    assert [str(one.message) for one in warned] == [
        "No token of the prompt's beginning was kept; these words have no heat map: a. Begin the "
        "prompt with other words."
    ]


def test_words_that_the_encoder_did_not_see():
    tokens = (
        Token(0, "<start>", "start"), Token(1, "a", "text", 0, 1), Token(2, "cat", "text", 2, 5),
        Token(3, "<end>", "end"),
    )  # fmt: skip
    prompt = Prompt("a cat and a dog", tokens)
    assert [word.text for word in prompt.lost_words] == ["and", "a", "dog"]
    assert prompt.find("a").columns == (1,)
    with pytest.raises(WordError) as caught:
        prompt.find("dog")
    assert str(caught.value) == (
        "'dog' stands behind the last position that the text encoder saw (4 tokens), so it made "
        "nothing. Shorten the prompt or move the word forward."
    )
    with pytest.raises(WordError, match="'a' stands behind the last position"):
        prompt.find("a", occurrence=1)


def test_without_text():
    prompt = Prompt.without_text(77)
    assert prompt.words == () and len(prompt.tokens) == 77
    with pytest.raises(WordError) as caught:
        prompt.find("cat")
    assert str(caught.value) == (
        "This image was made from prompt_embeds, so its columns have no words. Pass "
        "attribution_prompt='…' to the pipeline, or ask for attribution.column(index)."
    )


@pytest.mark.parametrize("text", ["", " ", "?!"])
def test_prompt_without_words(make_prompt, text):
    prompt = make_prompt(text)
    assert prompt.words == ()
    with pytest.raises(WordError) as caught:
        prompt.find("cat")
    assert str(caught.value) == f"'cat' is not a word of the prompt, which has none: {text!r}."
    with pytest.raises(WordError, match=r"has 0 words; 0 is not the index of one\.$"):
        prompt.find(0)


@pytest.mark.parametrize(
    ("kind", "span"),
    [("text", ()), ("text", (1,)), ("start", (1, 2)), ("padding", (1,)), ("unknown", (0, 0))],
)
def test_a_token_has_a_span_exactly_if_it_is_text(kind, span):
    with pytest.raises(InputError, match=r"^A token has a span exactly if it is text: Token\("):
        Token(0, "x", kind, *span)


def test_overlaps():
    token = Token(0, "cat", "text", 2, 5)
    touching = {span for span in [(0, 2), (0, 3), (4, 9), (5, 9), (2, 5), (3, 4)]
                if token.overlaps(*span)}  # fmt: skip
    assert touching == {(0, 3), (4, 9), (2, 5), (3, 4)}
    assert not Token(0, "<end>", "end").overlaps(0, 99)


@pytest.mark.parametrize("columns", [(1,), (0, 0), (0, 2), (1, 0)])
def test_tokens_are_the_columns_in_order(columns):
    with pytest.raises(
        InputError, match=r"^The tokens of a prompt must be its columns 0, 1, 2, … in order\.$"
    ):
        Prompt("a", tuple(Token(column, "<pad>", "padding") for column in columns))


@pytest.mark.parametrize("span", [(0, 6), (-1, 2), (3, 2), (6, 6)])
def test_tokens_outside_the_prompt(span):
    with pytest.raises(InputError, match=r"^Token\(.* lies outside the prompt of 5 characters\.$"):
        Prompt("a cat", (Token(0, "cat", "text", *span),))
    with pytest.raises(InputError, match=r"lies outside the prompt of 0 characters\.$"):
        Prompt(None, (Token(0, "cat", "text", 0, 3),))
