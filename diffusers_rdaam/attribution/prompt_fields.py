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
MAX_PROMPTS = 8  # no pipeline of diffusers has over four text encoders


def token_fields(prompt: Prompt) -> list[list[Any]]:
    """The tokens of a prompt as lists, for JSON; encoder and position only where they have one."""
    return [
        [token.text, token.kind, token.start, token.end]
        + ([token.encoder, token.position] if _has_more(token) else [])
        for token in prompt.tokens
    ]


def _has_more(token: Token) -> bool:
    return token.encoder is not None or token.position is not None


def further_fields(prompt: Prompt) -> dict[str, Any]:
    """The field of the texts that other text encoders were given, where there are some."""
    if not prompt.further:
        return {}
    return {
        "further": [
            {"prompt": other.text, "tokens": token_fields(other)} for other in prompt.further
        ]
    }


def check_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> None:
    """Check the fields of a prompt.

    Args:
        part: of the header, with the text and ``"tokens"``, and ``"further"`` where there are more
            texts; in version 1 of the format a second one is ``"second"``.
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
    further = _further(part)
    check(isinstance(further, list), "the further texts of its prompt are not a list")
    check(len(further) < MAX_PROMPTS, f"its prompt has {len(further) + 1} texts")
    for other in further:
        check(isinstance(other, dict), "a further text of its prompt is not an object")
        check(not _further(other), "a further text of its prompt has further texts")
        all_known = prompt is not None and other.get("prompt") is not None
        check(all_known, "its prompt has several texts, and one of them is not known")
        check_prompt(other, check)
        count = len(other["tokens"])
        check(count == len(tokens), f"a further text has {count} tokens for {len(tokens)} columns")


def _further(part: Mapping[str, Any]) -> Any:
    """The fields of the further texts; version 1 of the format has one, which is not in a list."""
    second = part.get("second")
    return part.get("further", []) if second is None else [second]


def build_prompt(part: Mapping[str, Any], *, text: str = "prompt") -> Prompt:
    """The prompt of fields that were checked.

    Raises:
        InputError: a token lies outside the text.
    """
    tokens = tuple(Token(i, *token) for i, token in enumerate(part["tokens"]))
    return Prompt(part[text], tokens, further=tuple(map(build_prompt, _further(part))))


def read_prompt(part: Mapping[str, Any], check: Check, *, text: str = "prompt") -> Prompt:
    """:func:`check_prompt` and :func:`build_prompt`."""
    check_prompt(part, check, text=text)
    try:
        return build_prompt(part, text=text)
    except InputError as error:
        check.fail(str(error).removesuffix("."))
