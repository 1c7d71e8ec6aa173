"""Fit: what token optimisation changes, the embedding, or text encoders' vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.open_vocabulary.encode import TextLike, encoded
from diffusers_rdaam.open_vocabulary.input_vectors import (
    encoder_names,
    encoders_of,
    replaced_vectors,
)
from diffusers_rdaam.recording.records.vocabulary import EncodedText


class Fit:
    """What is fitted: rows of an embedding, or input vectors of text encoders.

    Args:
        prompt: of the embedding.
        words: its rows that are the word's; row 0 is the background's.
        start: what to start from.
    """

    prompt: Prompt
    words: tuple[int, ...]
    start: list[Tensor]

    def embedding(self, parameters: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def vectors(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError


class _Encoded(Fit):
    def __init__(self, pipe: Any, text: EncodedText) -> None:
        ends = {token.column for token in text.prompt.tokens if token.kind in ("end", "padding")}
        # Without its end, as OVAM has it: background and word alone compete.
        kept = [token for token in text.prompt.tokens if token.column not in ends]
        columns = [token.column for token in kept]
        if len(columns) < 2:
            raise InputError(
                f"The initial embedding has {len(columns)} rows; at least two are needed, the "
                "background's (the start token's) and one of the word."
            )
        tokens = tuple(replace(token, column=i) for i, token in enumerate(kept))
        self.prompt = Prompt(text.prompt.text, tokens)
        self.words = tuple(range(1, len(columns)))
        self.start = [text.embedding[columns].float()]
        self.names = encoder_names(pipe, self.start[0].shape[-1])

    def embedding(self, parameters: list[Tensor]) -> Tensor:
        return parameters[0] * 1.0

    def vectors(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        widths = list(self.names.values())
        return dict(zip(self.names, parameters[0].split(widths, dim=-1), strict=True))


class _Vectors(Fit):
    def __init__(self, pipe: Any, text: str, clip_skip: int | None) -> None:
        found = encoded(pipe, text, clip_skip=clip_skip)
        self.prompt = found.prompt
        self.words = tuple(t.column for t in found.prompt.tokens if t.kind == "text")
        self._pipe, self._text, self._clip_skip = pipe, text, clip_skip
        self._encoders = encoders_of(pipe)
        with replaced_vectors(self._encoders, self.words, None) as seen:
            encoded(pipe, text, clip_skip=clip_skip)
        self.start = [seen[name].float() for name in self._encoders]

    def embedding(self, parameters: list[Tensor]) -> Tensor:
        given = dict(zip(self._encoders, parameters, strict=True))
        with replaced_vectors(self._encoders, self.words, given):
            return encoded(self._pipe, self._text, clip_skip=self._clip_skip).embedding

    def vectors(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self._encoders, parameters, strict=True))


@torch.no_grad()
def fit_of(pipe: Any, initial: TextLike, space: str, clip_skip: int | None) -> Fit:
    if space == "encoded":
        return _Encoded(pipe, encoded(pipe, initial, clip_skip=clip_skip))
    if space != "token":
        raise InputError(f"space= is 'encoded' or 'token'; got {space!r}.")
    if not isinstance(initial, str):
        raise InputError(
            "With space='token' the start is a word, whose vectors the text encoder has; got a "
            f"{type(initial).__name__}."
        )
    return _Vectors(pipe, initial, clip_skip)
