"""From a tokenizer's offsets to a Prompt: one token per column of the attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.tokens.chatglm import align_chatglm, is_chatglm
from diffusers_rdaam.tokens.column_layouts import TokenizedText, layouts_of, tokenized
from diffusers_rdaam.tokens.given_text import converted_places


def align(tokenizer: Any, text: str, columns: int) -> Prompt:
    """The prompt whose tokens are the columns of a text embedding.

    A pipeline pads and cuts the text to the columns; where they are more than the tokenizer's
    length, the text is in windows, as :func:`~.column_layouts.layouts_of` says. Only character
    offsets and the mask of special tokens are relied on; the tokenizer's idea of words is not.

    Args:
        tokenizer: of transformers, with offsets.
        text: what was tokenized.
        columns: length of the embedding.

    Raises:
        InputError: the text does not fit into the embedding's length.
    """
    return align_written(tokenizer, text, text, columns)


def tokenizer_of(pipe: Any) -> Any:
    """The first text encoder's tokenizer, or the second's where a pipeline has only that.

    None where a pipeline has neither.
    """
    first = getattr(pipe, "tokenizer", None)
    return getattr(pipe, "tokenizer_2", None) if first is None else first


def prompt_of(pipe: Any, text: str, columns: int, second: str | None = None) -> Prompt:
    """The prompt as a pipeline tokenizes it: textual inversion writes one token as several.

    Args:
        pipe: with two text encoders the first one's tokenizer, unless there is only the second.
        text, columns: as in :func:`align`.
        second: another text that the second text encoder was given; without a first one the
            stock pipelines give it ``text``, and this is not read.

    Raises:
        InputError: as :func:`align`.
    """
    first = _as_converted(pipe, tokenizer_of(pipe), text, columns)
    other = getattr(pipe, "tokenizer_2", None)
    if pipe.tokenizer is None or other is None or second is None:
        return first
    return replace(
        first,
        further=(_as_converted(pipe, other, second, columns),),
    )


def _as_converted(pipe: Any, tokenizer: Any, text: str, columns: int) -> Prompt:
    convert = getattr(pipe, "maybe_convert_prompt", None)
    converted = text if convert is None else convert(text, tokenizer)
    return align_written(tokenizer, text, converted, columns)


def align_written(tokenizer: Any, written: str, converted: str, columns: int) -> Prompt:
    """The prompt as the user wrote it, where the pipeline tokenizes it in other words.

    Textual inversion writes a token of several vectors as several tokens (``<cat-toy>`` becomes
    ``<cat-toy> <cat-toy>_1``); each of them stands for the characters that the user wrote.

    Args:
        tokenizer: as in :func:`align`.
        written: what the user gave.
        converted: what was tokenized; where it is something else than that, it is the prompt.
        columns: length of the embedding.

    Raises:
        InputError: as :func:`align`.
    """
    if is_chatglm(tokenizer):
        return align_chatglm(tokenizer, converted, columns)
    return layouts_of(tokenized_as_written(tokenizer, written, converted), columns)[0].prompt


def tokenized_as_written(tokenizer: Any, written: str, converted: str) -> TokenizedText:
    """The tokens of what was tokenized, as characters of what the user wrote.

    Raises:
        InputError: the tokenizer gives no character offsets.
    """
    text = tokenized(tokenizer, converted)
    places = None if written == converted else converted_places(tokenizer, written, converted)
    if places is None:
        return text
    body = tuple(
        replace(piece, start=places[piece.start][0], end=places[piece.end - 1][1])
        if piece.start is not None and piece.end is not None and piece.start < piece.end
        else piece
        for piece in text.body
    )
    return replace(text, text=written, body=body)
