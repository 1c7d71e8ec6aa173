"""From what the user wrote to what a tokenizer is given, and its tokens back to the user's text."""

from __future__ import annotations

import re

import pytest
import small_tokenizers as small
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.encoded_text import encoded
from diffusers_rdaam.tokens.given_text import GivenText

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Letters, and what templates and cleaning could stumble over.
HARD = st.text(st.sampled_from([*"aZ \n\t{}'\"%\\<|>İßﬁΣς猫犬éé🐈‍⬛[]:▁"]), max_size=30)
TOKENIZERS = {
    name: getattr(small, name)()
    for name in ("clip", "t5", "gemma", "llama", "qwen", "mistral", "glm", "bert", "byt5")
}


def places_are_right(text: GivenText) -> None:
    assert len(text.places) == len(text.given)
    for letter, place in zip(text.given, text.places, strict=True):
        if place is not None:
            part = text.written[slice(*place)]
            assert (
                letter in part
                or letter in part.lower()
                or (letter + part).isspace()
                or ({letter, part.lower()} <= {"σ", "ς"})
            )


@given(st.one_of(TEXTS, HARD))
def test_lower_case_and_white_space_are_mapped_back(written):
    text = GivenText.of(written)
    for change in (
        lambda one: one.lower().strip(),
        lambda one: re.sub(r"\s+", " ", one).strip(),
        str.strip,
    ):
        cleaned = text.cleaned(change(written))
        assert cleaned.given == change(written)
        # Found in the user's text: never only in the cleaned one.
        assert cleaned.written == written
        places_are_right(cleaned)


def test_what_is_changed_otherwise_counts_as_written():
    text = GivenText.of("caf&eacute; (red)").cleaned("café red")
    assert text == GivenText.of("café red")
    assert GivenText.of("a b").cleaned("ab").places == ((0, 1), (2, 3))


@given(st.one_of(TEXTS, HARD))
def test_templates_leave_the_prompt_as_it_is(written):
    text = GivenText.of(written)
    template = "<|im_start|>{{x}} {}<|im_end|>\n{{y}}"
    formatted = text.formatted(template)
    assert formatted.given == template.format(written)
    places_are_right(formatted)
    inside = [place for place in formatted.places if place is not None]
    assert inside == [(i, i + 1) for i in range(len(written))]


@given(HARD)
def test_chat_templates_leave_the_prompt_as_it_is(written):
    def render(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return TOKENIZERS["qwen"].apply_chat_template(messages, tokenize=False)

    text = GivenText.of(written).rendered(render)
    assert text.given == render(written)
    assert GivenText.of(written).rendered(lambda one: f"[{one.strip()}]").given == (
        f"[{written.strip()}]"
    )
    places_are_right(text)


@pytest.mark.parametrize(
    "render", [lambda _: "no prompt", lambda one: f"x{one}{one}y", lambda one: one[::-1]]
)
def test_a_template_that_changes_the_prompt_is_refused(render):
    with pytest.raises(InputError, match="chat template of the tokenizer changes the prompt"):
        GivenText.of("a cat").rendered(render)


@pytest.mark.parametrize("template", ["none", "{} and {}"])
def test_a_template_has_one_field(template):
    with pytest.raises(InputError, match=r"has \d fields, not one"):
        GivenText.of("a cat").formatted(template)


@given(st.text(st.sampled_from("[IMG] x"), max_size=30))
def test_a_part_is_left_out_as_replace_does(written):
    text = GivenText.of(written).without("[IMG]")
    assert text.given == written.replace("[IMG]", "")
    places_are_right(text)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(written=st.one_of(TEXTS, HARD), before=st.sampled_from(["", "Say: ", "a\n"]))
def test_tokens_stand_for_the_users_characters(name, written, before):
    tokenizer = TOKENIZERS[name]
    text = GivenText.of(written).framed(before, "<|im_end|>")
    pieces = encoded(tokenizer, text)
    assert [piece.id for piece in pieces] == tokenizer(text.given).input_ids
    reach = 0
    for piece in pieces:
        if piece.kind != "text":
            assert piece.start is None and piece.end is None
            continue
        part = written[piece.start : piece.end]
        assert part == part.strip() and 0 <= piece.start <= piece.end <= len(written)
        # In order; tokens of one character may have it several times.
        assert piece.end >= reach or part == ""
        reach = max(reach, piece.end)
    seen = {at for piece in pieces if piece.kind == "text" for at in range(piece.start, piece.end)}
    if name in ("byt5", "qwen", "mistral", "gemma", "llama"):
        assert {at for at, letter in enumerate(written) if not letter.isspace()} <= seen


@pytest.mark.parametrize("name", ["t5", "llama"])
def test_the_space_before_a_word_has_none_of_its_characters(name):
    first, second, *_ = encoded(TOKENIZERS[name], GivenText.of("猫 a"))[1 - (name == "t5") :]
    assert (first.text, first.start, first.end) == ("", 0, 0)
    assert (second.start, second.end) == (0, 1)


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="Slow gives no character offsets"):
        encoded(Slow(), GivenText.of("a cat"))


def test_byt5_with_other_tokens_than_bytes_is_refused():
    with pytest.raises(InputError, match="other tokens than the bytes of the text"):
        encoded(small.byt5(), GivenText.of("a<pad>b"))
