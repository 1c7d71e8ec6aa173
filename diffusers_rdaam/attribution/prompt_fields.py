"""A prompt in a file: its text and its tokens, the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.fields import Check, is_text, is_token, shown

MAX_TOKENS = 8192
# Far over what any encoder reads; whoever asks for a word waits in proportion to it.
MAX_PROMPT = 100_000


def token_fields(prompt: Prompt) -> list[list[Any]]:
    """The tokens of a prompt as lists, for JSON."""
    return [[token.text, token.kind, token.start, token.end] for token in prompt.tokens]


def check_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> None:
    """Check the fields of a prompt.

    Args:
        part: of the header, with the text and ``"tokens"``.
        check: what raises.
        text: the name of the field that has the text.
    """
    prompt, tokens = part.get(text, False), part.get("tokens")
    check(prompt is None or is_text(prompt), "its prompt is no text")
    check(len(prompt or "") <= MAX_PROMPT, f"its prompt is over {MAX_PROMPT} characters")
    check(isinstance(tokens, list) and bool(tokens), "it has no tokens")
    assert isinstance(tokens, list)
    check(len(tokens) <= MAX_TOKENS, f"it has {len(tokens)} tokens, over {MAX_TOKENS}")
    for token in tokens:
        check(is_token(token), f"{shown(token)} is no token")


def build_prompt(part: Mapping[str, Any], *, text: str = "prompt") -> Prompt:
    """The prompt of fields that were checked.

    Raises:
        InputError: a token lies outside the text.
    """
    return Prompt(part[text], tuple(Token(i, *token) for i, token in enumerate(part["tokens"])))


def read_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> Prompt:
    """:func:`check_prompt` and :func:`build_prompt`."""
    check_prompt(part, check, text=text)
    try:
        return build_prompt(part, text=text)
    except InputError as error:
        check.fail(str(error).removesuffix("."))
