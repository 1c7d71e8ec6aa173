"""Sources: batches of other lengths, textual inversion, words of several encoders, bad input."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stock_encoding import CPU, PICTURE, STOCK, column_ids

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.encoder_columns import EncoderColumns
from diffusers_rdaam.tokens.prompt_of_columns import prompt_columns, prompt_from
from diffusers_rdaam.tokens.sources import SOURCES

TEXT = "a cat with a blue hat"


def pipe_of(name: str, index: int = 0) -> Any:
    with warnings.catch_warnings():
        # A toy pipeline is not what the classes expect; nothing of it is tested here.
        warnings.simplefilter("ignore")
        return STOCK[name][index].build()


def shown(found: tuple[EncoderColumns, ...]) -> dict[str, list[str]]:
    """The user's characters of each column that has some, by encoder."""
    return {
        one.name: [one.text[p.start : p.end] for p in one.pieces if p.start != p.end]
        for one in found
    }


@pytest.mark.parametrize("name", ["qwen_image", "kandinsky5", "lumina", "cogview4"])
def test_a_longer_text_of_the_batch_adds_padding(name):
    pipe = pipe_of(name)
    longer = TEXT + ", and the red dog with eyes and a photo of the cat " * 3
    states = pipe.encode_prompt([TEXT, longer], device=CPU)[0]
    found = SOURCES[name](pipe, {"prompt": TEXT}, states.shape[1])
    (one,) = found
    kinds = [piece.kind for piece in one.pieces]
    assert "padding" in kinds and one.end == states.shape[1]
    for piece, id in zip(one.pieces, column_ids(states[0]), strict=True):
        assert id == piece.id + 1 or (piece.kind == "padding" and id == 0)


def test_a_text_that_the_embedding_was_not_made_from_is_refused():
    pipe = pipe_of("qwen_image")
    with pytest.raises(InputError, match=r"The text has \d+ tokens and its text embedding 9 col"):
        SOURCES["qwen_image"](pipe, {"prompt": TEXT}, 9)
    with pytest.raises(InputError, match="twice those of Llama; 12 are not that"):
        SOURCES["hidream"](pipe_of("hidream"), {"prompt": TEXT, "max_sequence_length": 11}, 12)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_prompt_that_is_not_a_text_is_refused(name):
    with pytest.raises(InputError, match=r"prompt of one image is one text, not \['a', 'b'\]"):
        SOURCES[name](pipe_of(name), {"prompt": ["a", "b"]}, 200)


@pytest.mark.parametrize("name", ["flux", "qwen_image", "sana"])
def test_a_pipeline_without_its_tokenizer_is_refused(name):
    pipe = pipe_of(name)
    pipe.tokenizer = pipe.tokenizer_2 = None
    with pytest.raises(InputError, match=r"has no tokenizer(_2)?, so the words of the prompt can"):
        SOURCES[name](pipe, {"prompt": TEXT}, 64)


def test_an_argument_that_the_call_does_not_have():
    pipe = pipe_of("flux")
    with pytest.raises(InputError, match="FluxPipeline has no argument 'clean_caption'"):
        SOURCES["pixart"](pipe, {"prompt": TEXT}, 64)


def test_the_words_of_stable_diffusion_3_own_columns_of_clip_and_t5():
    pipe = pipe_of("sd3", 1)
    prompt = prompt_from(SOURCES["sd3"](pipe, {"prompt": TEXT}, 77 + 64))
    assert prompt.encoders == ("clip", "t5")
    cat = prompt.find("cat")
    assert prompt.find("cat", encoder="clip").columns == (2,)
    assert prompt.find("cat", encoder="t5").columns == (78,) and cat.columns == (2, 78)
    texts = {"prompt": TEXT, "prompt_2": "a dog", "prompt_3": "the dog"}
    prompt = prompt_from(SOURCES["sd3"](pipe, texts, 77 + 64))
    assert [text.text for text in prompt.texts] == [TEXT, "a dog", "the dog"]
    assert prompt.find("dog", encoder="clip").columns == (2,)
    assert (
        prompt.find("dog", encoder="t5").columns == prompt.find("dog", encoder=3).columns == (78,)
    )
    assert prompt.find("dog").columns == (2, 78)


def test_a_word_of_hidream_owns_three_spans():
    pipe = pipe_of("hidream")
    found = SOURCES["hidream"](pipe, {"prompt": TEXT}, 3 * 128)
    prompt = prompt_from(found)
    assert prompt.encoders == ("t5", "llama")
    at = list(prompt.find("cat").columns)
    assert prompt.find("cat", encoder="t5").columns == tuple(c for c in at if c < 128)
    last, block = ([c - start for c in at if start <= c < start + 128] for start in (128, 256))
    assert last == block and last


def test_what_stands_in_quotes_is_of_byt5_too():
    pipe = pipe_of("hunyuan_image")
    text = 'a hat that says "猫 red"'
    found = SOURCES["hunyuan_image"](pipe, {"prompt": text}, 1128)
    prompt = prompt_from(found)
    assert prompt.encoders == ("byt5", "qwen")
    assert len(prompt.find("red", encoder="byt5").columns) == 3
    assert len(prompt.find("猫", encoder="byt5").columns) == 3
    assert prompt.find("hat").columns == prompt.find("hat", encoder="qwen").columns
    assert "template" in prompt.columns_of_kind()


def test_textual_inversion_is_mapped_back():
    pipe = pipe_of("flux")
    pipe.tokenizer_2.add_tokens(["<cat-toy>", "<cat-toy>_1"])
    text = "a <cat-toy> with a hat"
    arguments = {"prompt": text, "max_sequence_length": 20}
    states = pipe.encode_prompt(**arguments)[0]
    (one,) = SOURCES["flux"](pipe, arguments, 20)
    assert [piece.id + 1 for piece in one.pieces] == column_ids(states[0])
    assert shown((one,)) == {"t5": ["a", "<cat-toy>", "<cat-toy>", "with", "a", "hat"]}
    prompt = prompt_from((one,))
    assert [word.text for word in prompt.words] == ["a", "<cat-toy>", "with", "a", "hat"]


def test_pictures_come_before_the_prompt():
    pipe = pipe_of("qwen_image_edit_plus", 1)
    sizes = [PICTURE, PICTURE.resize((100, 50))]
    ids = STOCK["qwen_image_edit_plus"][1].ids(pipe, {"prompt": TEXT, "image": sizes})
    # Pictures of unknown sizes: the words are where they are all the same.
    whole = SOURCES["qwen_image_edit_plus"](pipe, {"prompt": TEXT, "image": sizes}, len(ids))
    unknown = [None, None]
    blind = SOURCES["qwen_image_edit_plus"](pipe, {"prompt": TEXT, "image": unknown}, len(ids))
    assert prompt_from(whole).words == prompt_from(blind).words
    assert prompt_from(whole).columns_of_kind().keys() >= {"template"}


def test_what_was_cut_is_known():
    pipe = pipe_of("flux")
    (one,) = SOURCES["flux"](pipe, {"prompt": "a cat with a blue hat"}, 4)
    prompt = prompt_from((one,))
    assert [word.text for word in prompt.lost_words] == ["a", "blue", "hat"]
    assert "".join(TEXT[start:end] for start, end in one.cut) == "abluehat"


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(
        ["flux", "z_image", "qwen_image", "sana", "krea2", "longcat", "flux2_klein"]
    ),
    text=st.text(st.sampled_from([*"a cat{}'\"\n猫é%\\"]), max_size=40),
)
def test_any_text(name, text):
    pipe = PIPES.setdefault(name, pipe_of(name))
    arguments = {**STOCK[name][0].arguments, "prompt": text}
    ids = STOCK[name][0].ids(pipe, arguments)
    found = SOURCES[name](pipe, arguments, len(ids))
    (one,) = found
    for piece, id in zip(one.pieces, ids, strict=True):
        assert id == piece.id + 1 or (piece.kind == "padding" and id == 0)
    assert prompt_columns(found) == tuple(
        column for column, piece in enumerate(one.pieces) if piece.kind == "text"
    )


PIPES: dict[str, Any] = {}
