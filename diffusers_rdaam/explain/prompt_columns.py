"""The prompt whose tokens are the columns of the text embedding that a generation was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.families import family_of
from diffusers_rdaam.tokens.alignment import prompt_of
from diffusers_rdaam.tokens.prompt_of_columns import prompt_from
from diffusers_rdaam.tokens.sources import SOURCES


def prompt_of_columns(
    pipe: Any, text: str, columns: int, arguments: Mapping[str, Any] | None = None
) -> Prompt:
    """The prompt with a token for every column, of each text encoder.

    Args:
        pipe: a pipeline that is explained.
        text: that was encoded.
        columns: length of the text embedding.
        arguments: of the pipeline's call, by name.

    Raises:
        InputError: the text does not fit into the columns, or a tokenizer is not loaded.
    """
    source = family_of(pipe).tokens
    if not source:
        return prompt_of(pipe, text, columns)
    encoders = SOURCES[source](pipe, {**(arguments or {}), "prompt": text}, columns)
    found = prompt_from(encoders)
    # Stable Diffusion 3 without T5 has zeros in its columns.
    empty = (Token(index, "", "padding") for index in range(len(found.tokens), columns))
    return replace(found, tokens=(*found.tokens, *empty))
