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


def second_fields(prompt: Prompt) -> dict[str, Any]:
    """The field of the second text encoder's text, where it is another than the prompt."""
    second = prompt.second
    if second is None:
        return {}
    return {"second": {"prompt": second.text, "tokens": token_fields(second)}}


def check_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> None:
    """Check the fields of a prompt.

    Args:
        part: of the header, with the text and ``"tokens"``, and ``"second"`` where there are two
            texts.
        check: what raises.
        text: the name of the field that has the text.
    """
    prompt, tokens = part.get(text, False), part.get("tokens")
    check(prompt is None or is_text(prompt), "its prompt is not a text")
    check(len(prompt or "") <= MAX_PROMPT, f"its prompt is over {MAX_PROMPT} characters")
    check(isinstance(tokens, list) and bool(tokens), "it has no tokens")
    assert isinstance(tokens, list)
    check(len(tokens) <= MAX_TOKENS, f"it has {len(tokens)} tokens, over {MAX_TOKENS}")
    for token in tokens:
        check(is_token(token), f"{shown(token)} is not a token")
    second = part.get("second")
    if second is not None:
        check(isinstance(second, dict), "the second text of its prompt is not an object")
        check(second.get("second") is None, "its prompt has over two texts")
        both = prompt is not None and second.get("prompt") is not None
        check(both, "its prompt has two texts, and one of them is not known")
        check_prompt(second, check)
        count = len(second["tokens"])
        check(count == len(tokens), f"its second text has {count} tokens for {len(tokens)} columns")


def build_prompt(part: Mapping[str, Any], *, text: str = "prompt") -> Prompt:
    """The prompt of fields that were checked.

    Raises:
        InputError: a token lies outside the text.
    """
    tokens = tuple(Token(i, *token) for i, token in enumerate(part["tokens"]))
    second = part.get("second")
    return Prompt(part[text], tokens, second=None if second is None else build_prompt(second))


def read_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> Prompt:
    """:func:`check_prompt` and :func:`build_prompt`."""
    check_prompt(part, check, text=text)
    try:
        return build_prompt(part, text=text)
    except InputError as error:
        check.fail(str(error).removesuffix("."))
