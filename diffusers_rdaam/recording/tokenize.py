"""From a tokenizer's offsets to a Prompt: one token per column of the attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.recording.chatglm import align_chatglm, is_chatglm


def align(tokenizer: Any, text: str, columns: int) -> Prompt:
    """The prompt whose tokens are the columns of a text embedding.

    A pipeline pads and cuts the text to the tokenizer's length. An embedding of a multiple of that
    length is read as what long-prompt tools make: the text in parts of two less, each part with its
    own start and end. Only character offsets are relied on; the tokenizer's idea of words is not.

    Args:
        tokenizer: of transformers, with offsets.
        text: what was tokenized.
        columns: length of the embedding.

    Raises:
        InputError: the embedding's length fits neither.
    """
    if is_chatglm(tokenizer):
        return align_chatglm(tokenizer, text, columns)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, so words cannot be found. "
            "Load the pipeline's tokenizer with transformers 5 or as its Fast class."
        )
    length = tokenizer.model_max_length
    if columns == length:
        return Prompt(text, _padded(tokenizer, text, columns))
    if columns % length == 0:
        return Prompt(text, _chunked(tokenizer, text, columns, length))
    whole = _padded(tokenizer, text, None)
    if len(whole) == columns:
        return Prompt(text, whole)
    raise InputError(
        f"The text has {len(whole)} tokens, the embedding {columns} columns; neither that nor a "
        f"multiple of {length} fits. Give the text that the embedding was made from."
    )


def prompt_of(pipe: Any, text: str, columns: int) -> Prompt:
    """The prompt as a pipeline tokenizes it: textual inversion writes one token as several.

    Args:
        pipe: with two text encoders the first one's tokenizer, unless there is only the second.
        text, columns: as in :func:`align`.

    Raises:
        InputError: as :func:`align`.
    """
    convert = getattr(pipe, "maybe_convert_prompt", None)
    tokenizer = pipe.tokenizer if pipe.tokenizer is not None else pipe.tokenizer_2
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
    prompt = align(tokenizer, converted, columns)
    places = None if written == converted else _places(tokenizer, written, converted)
    if places is None:
        return prompt
    tokens = tuple(
        replace(token, start=places[token.start][0], end=places[token.end - 1][1])
        if token.start is not None and token.end is not None and token.start < token.end
        else token
        for token in prompt.tokens
    )
    return Prompt(written, tokens)


def _places(tokenizer: Any, written: str, converted: str) -> list[tuple[int, int]] | None:
    """For each character of the converted text the written ones that it stands for."""
    added = getattr(tokenizer, "added_tokens_encoder", {})
    places: list[tuple[int, int]] = []
    index = 0
    while index < len(written):
        # The longest first: one token's name may begin with another's.
        for name in sorted((n for n in added if written.startswith(n, index)), key=len)[::-1]:
            whole = " ".join([name, *_vectors(added, name)])
            if converted.startswith(whole, len(places)):
                places += [(index, index + len(name))] * len(whole)
                index += len(name)
                break
        else:
            if converted[len(places) : len(places) + 1] != written[index]:
                return None
            places.append((index, index + 1))
            index += 1
    return places if len(places) == len(converted) else None


def _vectors(added: Any, name: str) -> list[str]:
    count = 1
    while f"{name}_{count}" in added:
        count += 1
    return [f"{name}_{index}" for index in range(1, count)]


def _padded(tokenizer: Any, text: str, columns: int | None) -> tuple[Token, ...]:
    encoded = tokenizer(
        text,
        padding="max_length" if columns else False,
        max_length=columns,
        truncation=columns is not None,
        return_offsets_mapping=True,
        verbose=False,
    )
    pieces = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    used = sum(encoded.attention_mask)
    tokens = []
    for column, (piece, (start, end)) in enumerate(
        zip(pieces, encoded.offset_mapping, strict=True)
    ):
        # Padding may be the end token itself, so only the attention mask tells them apart.
        if column >= used:
            tokens.append(Token(column, piece, "padding"))
        elif column == 0:
            tokens.append(Token(column, piece, "start"))
        elif column == used - 1:
            tokens.append(Token(column, piece, "end"))
        else:
            tokens.append(Token(column, _clean(piece), "text", start, end))
    return tuple(tokens)


def _chunked(tokenizer: Any, text: str, columns: int, length: int) -> tuple[Token, ...]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pieces = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    body = list(zip(pieces, encoded.offset_mapping, strict=True))
    tokens: list[Token] = []
    for first in range(0, columns // length * (length - 2), length - 2):
        part = body[first : first + length - 2]
        tokens.append(Token(len(tokens), tokenizer.bos_token, "start"))
        for piece, (start, end) in part:
            tokens.append(Token(len(tokens), _clean(piece), "text", start, end))
        tokens.append(Token(len(tokens), tokenizer.eos_token, "end"))
        for _ in range(length - 2 - len(part)):
            tokens.append(Token(len(tokens), tokenizer.pad_token, "padding"))
    return tuple(tokens)


def _clean(piece: str) -> str:
    return piece.removesuffix("</w>")
