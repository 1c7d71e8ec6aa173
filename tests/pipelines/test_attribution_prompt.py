"""``attribution_prompt=`` is held against the embedding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from toys import ALL_CASES, call, toy

from diffusers_rdaam import RDAAMPipelineMixin, StableDiffusionRDAAMPipeline
from diffusers_rdaam.errors import (
    InputError,
    NotRecordedWarning,
    TextMismatchWarning,
    UncheckedTextWarning,
)
from diffusers_rdaam.pipelines.attribution_prompt import prompts_for, texts_of_argument

TEXT = "a red cat near a house"
XL = ALL_CASES["StableDiffusionXL"]


@pytest.fixture(scope="module")
def pipe(loaded) -> Any:
    """To encode with, and to check with; nothing is generated."""
    parts = copy.deepcopy(loaded.components)
    pipe = StableDiffusionRDAAMPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def embed(pipe: Any, *texts: str, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return pipe.encode_prompt(list(texts), "cpu", 1, False, **options)[0]


def ids_embedded(pipe: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return pipe.text_encoder(torch.tensor([ids]))[0]


def given_to(pipe: Any, given: Any, embeddings: torch.Tensor, **options: Any) -> Any:
    return prompts_for(pipe, given, embeddings, columns=embeddings.shape[1], **options)


def columns(prompt: Any) -> dict[str, tuple[int, ...]]:
    return {word.text: word.columns for word in prompt.words}


LONG = " ".join(["a"] * 74 + ["red", "cat", "house"])
WEIGHTED = [
    (TEXT, TEXT),
    ("a (red:1.3) cat near a house", TEXT),
    ("a ((red)) cat near [a house]", TEXT),
    ("a red++ cat near (a house)1.2", TEXT),
    ("(a red cat)-- near a house", TEXT),
    # Brackets may have been encoded, too.
    ("a (red) cat", "a (red) cat"),
    ("a red+ cat", "a red+ cat"),
    ("a [red] (cat:1.2)", "a [red] cat"),
    (r"a red cat \(near a house\)", "a red cat (near a house)"),
]


@pytest.mark.parametrize(("given", "encoded"), WEIGHTED)
def test_the_reading_that_agrees_is_taken(pipe, given, encoded):
    (prompt,) = given_to(pipe, given, embed(pipe, encoded) * 1.3)
    assert prompt.text == encoded
    assert prompt.find("cat").columns == (
        1 + encoded.replace("[", "[ ").replace("(", "( ").replace("]", " ]").replace(")", " )")
        .replace("+", " +").split().index("cat"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "encoded"),
    [
        ("two dogs", TEXT),
        ("a red", TEXT),
        (TEXT, "a red cat"),
        (TEXT, "a blue cat near a house"),
        ("", TEXT),
        (TEXT, ""),
        ("a (red:1.3) cat", TEXT),
        ([["a red cat", "near a house"]], TEXT),
    ],
)
def test_another_text(pipe, given, encoded):
    with pytest.warns(TextMismatchWarning) as caught:
        (prompt,) = given_to(pipe, given, embed(pipe, encoded))
    [warning] = caught
    assert str(warning.message).startswith("attribution_prompt=")
    assert prompt.text is None and len(prompt.tokens) == 77
    assert warning.filename == __file__


def test_what_is_said_of_another_text(pipe):
    with pytest.warns(TextMismatchWarning) as caught:
        given_to(pipe, "two dogs", embed(pipe, TEXT))
    assert str(caught[0].message) == (
        "attribution_prompt='two dogs' is not the text that the embedding was made from (at best "
        "0% of its columns do), so its columns have no words: ask for them by number, with "
        "attribution.column(index). Give the text that was encoded; weights such as (cat:1.3) or "
        "cat++ are read, and parts that begin a window of the text encoder each are given as "
        "[['…', '…']]."
    )


def test_some_columns_may_differ(pipe):
    text = " ".join(["a red cat near a house"] * 4)
    row = embed(pipe, text)
    row[0, 3:5] *= -1
    assert given_to(pipe, text, row)[0].text == text
    row[0, 5] *= -1
    with pytest.warns(TextMismatchWarning, match="at best 88% of its columns do"):
        given_to(pipe, text, row)
    zeros = torch.zeros_like(row)
    for nothing in (zeros, zeros * float("nan")):
        with pytest.warns(TextMismatchWarning):
            given_to(pipe, text, nothing)


def test_padding_does_not_count(pipe):
    row = embed(pipe, TEXT)
    row[0, 9:] = 0
    assert given_to(pipe, TEXT, row)[0].text == TEXT


@pytest.mark.parametrize("size", [8, 11, 60])
def test_one_window_without_padding_or_with_less_of_it(pipe, size):
    ids = pipe.tokenizer(TEXT, padding="max_length", max_length=size).input_ids
    (prompt,) = given_to(pipe, TEXT, ids_embedded(pipe, ids))
    assert columns(prompt) == columns(given_to(pipe, TEXT, embed(pipe, TEXT))[0])


def windows(pipe: Any, text: str, size: int, *, cut: bool = False) -> torch.Tensor:
    """A long text in windows, with start and end each; or cut, with those once."""
    ids = pipe.tokenizer(text, verbose=False).input_ids
    if not cut:
        body, first, last = ids[1:-1], ids[0], ids[-1]
        ids = []
        for place in range(0, -(-size // 77) * 75, 75):
            part = [first, *body[place : place + 75], last]
            ids += part + [pipe.tokenizer.pad_token_id] * (77 - len(part))
        ids = ids[:size]
    ids += [pipe.tokenizer.pad_token_id] * (size - len(ids))
    return torch.cat([ids_embedded(pipe, ids[at : at + 77]) for at in range(0, size, 77)], 1)


@pytest.mark.parametrize("size", [81, 90, 154, 160, 231])
@pytest.mark.parametrize("cut", [True, False])
def test_windows(pipe, size, cut):
    (prompt,) = given_to(pipe, LONG, windows(pipe, LONG, size, cut=cut))
    cat = 76 if cut else 78
    assert prompt.lost_words == ()
    assert (columns(prompt)["cat"], columns(prompt)["house"]) == ((cat,), (cat + 1,))


GIVEN_PARTS = [
    [["a red cat", "near a house"]],
    [["a (red:1.2) cat", "near a house++"]],
    "a red cat BREAK near a (house:1.1)",
    '("a red cat", "near a house").and()',
    # Where they are divided shows in the embedding.
    "a red cat near a house",
]


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("given", GIVEN_PARTS)
def test_parts(pipe, given, more):
    parts = ["a red cat", "near a house", *[""] * more]
    row = torch.cat([embed(pipe, part) for part in parts], 1)
    (prompt,) = given_to(pipe, given, row)
    assert (columns(prompt)["cat"], columns(prompt)["house"]) == ((3,), (80,))


def test_each_prompt_of_several(pipe):
    both = embed(pipe, TEXT, "two dogs")
    with pytest.warns(TextMismatchWarning, match=r"'a hat' is not"):
        one, other = given_to(pipe, [TEXT, "a hat"], both)
    assert one.text == TEXT and other.text is None
    with pytest.warns(TextMismatchWarning, match=r"'a hat' \(and 1 more\) is not"):
        given_to(pipe, ["a hat", [TEXT, "dogs"]], both)


def test_clip_skip():
    _, ours = toy(XL)
    with torch.no_grad():
        row = ours.encode_prompt(TEXT, device="cpu", clip_skip=1)[0]
    assert given_to(ours, TEXT, row, clip_skip=1)[0].text == TEXT
    # The call does not know what the embedding was made with.
    assert given_to(ours, TEXT, row)[0].text == TEXT


@pytest.mark.parametrize(
    ("given", "text"),
    [(TEXT, TEXT), ("a (red:1.3) cat", "a red cat"), ("a (red) cat", "a (red) cat")],
)
def test_a_text_that_cannot_be_checked(make, pipe, given, text):
    without = make(share=pipe, text_encoder=None)
    with pytest.warns(UncheckedTextWarning) as caught:
        (prompt,) = given_to(without, given, embed(pipe, text))
    assert prompt.text == text
    assert [str(warning.message) for warning in caught] == [
        f"attribution_prompt={given!r} was not compared with the embedding, because a text encoder "
        "of the pipeline is not loaded. Its words are right only if the embedding was made from "
        "that text. Load the pipeline with its text encoders to have it compared."
    ]


class Broken(torch.nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")


def test_an_encoder_that_fails_leaves_image_and_words(ours, generate):
    row, negative = embed(ours, TEXT), embed(ours, "")
    ours.text_encoder.text_model = Broken() if hasattr(ours.text_encoder, "text_model") else None
    ours.text_encoder.forward = Broken().forward
    with pytest.warns(UncheckedTextWarning, match="OutOfMemoryError: no memory"):
        output = generate(
            ours, prompt_embeds=row, negative_prompt_embeds=negative, attribution_prompt=TEXT
        )
    assert output.attribution.word("cat").columns == (3,) and len(output.images) == 1


def test_an_embedding_of_another_encoder(pipe):
    with pytest.warns(UncheckedTextWarning, match=r"it makes \(77, 32\) of it"):
        given_to(pipe, TEXT, torch.zeros(1, 77, 48))


def test_checking_changes_nothing(make):
    pipe = make()
    pipe.text_encoder.train()
    row = embed(pipe, TEXT).detach()
    before = (dict(pipe.__dict__), dict(pipe.config), torch.get_rng_state())
    calls = []
    handle = pipe.text_encoder.register_forward_hook(
        lambda *_: calls.append(torch.is_grad_enabled())
    )
    given_to(pipe, TEXT, row)
    handle.remove()
    assert calls and not any(calls)
    assert pipe.__dict__ == before[0] and dict(pipe.config) == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert pipe.text_encoder.training and not pipe.text_encoder._forward_hooks


def test_another_default_device_and_type(pipe):
    row = embed(pipe, TEXT)
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        (prompt,) = given_to(pipe, TEXT, row)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert prompt.text == TEXT


def test_a_class_that_rewrites_texts(make, loaded):
    class Painted(StableDiffusionRDAAMPipeline):
        def encode_prompt(self, prompt, *args, **kwargs):
            return super().encode_prompt(
                [f"a painting of {one}" for one in prompt], *args, **kwargs
            )

    assert issubclass(Painted, RDAAMPipelineMixin)
    painted = make(Painted)
    row = embed(painted, TEXT)
    assert given_to(painted, f"a painting of {TEXT}", row)[0].text == f"a painting of {TEXT}"


def test_placeholders_of_several_vectors(make):
    pipe = make()
    pipe.load_textual_inversion({"<red-cat>": torch.randn(2, 32)})
    text = "a (<red-cat>:1.2) near a cat"
    row = embed(pipe, text.replace("(", "").replace(":1.2)", ""))
    (prompt,) = given_to(pipe, text, row)
    assert columns(prompt)["<red-cat>"] == (2, 3) and prompt.find("cat").columns == (6,)


@pytest.mark.parametrize("given", ["a (red:1.2) cat", [["a red cat", "a hat"]]])
def test_two_text_encoders(given):
    _, ours = toy(XL)
    parts = given[0] if isinstance(given, list) else ["a red cat"]
    with torch.no_grad():
        rows = [ours.encode_prompt(part, device="cpu")[0] for part in parts]
    row = torch.cat(rows, 1)
    (prompt,) = given_to(ours, given, row)
    assert prompt.find("cat").columns == (3,)
    # The second encoder's half alone is of another text.
    row[..., 32:] = ours.encode_prompt("two dogs", device="cpu")[0].repeat(1, len(parts), 1)[
        ..., 32:
    ]
    with pytest.warns(TextMismatchWarning):
        given_to(ours, given, row)


def test_kolors():
    case = ALL_CASES["Kolors"]
    _, ours = toy(case)
    with torch.no_grad():
        row = ours.encode_prompt("a red cat", device="cpu", max_sequence_length=40)[0]
    (prompt,) = given_to(ours, "a red cat", row)
    assert prompt.find("cat").columns == (39,)
    (prompt,) = given_to(ours, "a (red:1.2) cat", row)
    assert prompt.text == "a red cat"
    with pytest.warns(TextMismatchWarning):
        given_to(ours, "two dogs", row)


def test_a_mismatch_leaves_the_image_and_the_columns(ours, generate):
    row = embed(ours, TEXT)
    plain = generate(ours, prompt_embeds=row)
    with pytest.warns(TextMismatchWarning) as caught:
        output = generate(ours, prompt_embeds=row, attribution_prompt="two dogs")
    assert caught[0].filename.endswith("conftest.py"), "where the pipeline was called"
    assert output.images[0].tobytes() == plain.images[0].tobytes()
    assert output.attribution.words == ()
    assert torch.equal(output.attribution.column(3).values, plain.attribution.column(3).values)


@pytest.mark.parametrize("given", [3, [3], [["a", 3]], [[]], {"a": "b"}, [None]])
def test_what_is_not_a_text(given):
    with pytest.raises(InputError) as caught:
        texts_of_argument(given, 1)
    assert str(caught.value) == (
        "attribution_prompt= is the text that the embedding was made from, a list of one per "
        "prompt, or a list of lists of parts, of which each begins a window of the text encoder: "
        f"[['a cat', 'a hat']]; got {given!r}."
    )


def test_parts_without_a_list_of_their_own(ours, generate):
    with pytest.raises(InputError) as caught:
        texts_of_argument(["a cat", "a hat"], 1)
    assert str(caught.value) == (
        "attribution_prompt has 2 texts for 1 prompt_embeds; give one for each. Parts of one "
        "prompt are a list of their own: [['…', '…']]."
    )
    with pytest.warns(NotRecordedWarning, match="Parts of one prompt are a list of their own"):
        output = generate(ours, prompt_embeds=embed(ours, TEXT), attribution_prompt=["a", "b"])
    assert output.attributions is None and len(output.images) == 1


def test_a_prompt_taken_literally(ours, generate):
    attribution = generate(ours, "a (cat:1.3) hat").attribution
    assert [word.text for word in attribution.words] == ["a", "cat", "1", "3", "hat"]
    assert call(XL, toy(XL)[1], "a (cat:1.3)").attribution.prompt.text == "a (cat:1.3)"
