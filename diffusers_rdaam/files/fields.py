"""Checks of the fields of a file, the same on reading and on writing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.files.json_text import parse_json

MAX_SIDE = 16384
MAX_AREA = 2**26  # pixels of an image, whether it is in the file or only its size
MAX_COUNT = 2**53
KINDS = ("text", "start", "end", "padding", "unknown", "template", "rest")
MAX_POSITION = 2**31
_CURE = "Nothing was written; change that and save again."


@dataclass(frozen=True)
class Check:
    """Raises an error where a field of a file is wrong.

    Args:
        path: of the file.
        noun: what the file holds, such as ``"attribution"``.
        writing: whether it is about to be written; else it was read.
    """

    path: Path
    noun: str
    writing: bool = False

    def __call__(self, right: bool, problem: str) -> None:
        """Raise unless ``right``.

        Raises:
            AttributionFileError: what was read is wrong.
            InputError: what was to be written is.
        """
        if not right:
            self.fail(problem)

    def fail(self, problem: str, *, cure: str = _CURE) -> NoReturn:
        """Raise; ``cure`` is said where something was to be written."""
        if self.writing:
            raise InputError(
                f"The {self.noun} could not be written to {self.path}: {problem}. {cure}"
            )
        raise AttributionFileError(f"{self.path} is not a valid {self.noun}: {problem}.")

    def json(self, text: str) -> Any:
        """The value of a JSON header."""
        try:
            return parse_json(text)
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError):
                self.fail("its header is not JSON")
            self.fail(f"its header is not taken: {error}")

    def dumped(self, header: dict[str, Any] | list[Any]) -> tuple[str, Any]:
        """A header as JSON, and what a reader will find in it.

        Raises:
            InputError: it cannot be written as it is.
        """
        try:
            text = json.dumps(header, ensure_ascii=False, default=_plain)
            text.encode()
        except UnicodeEncodeError:
            self.fail("it has half of a surrogate pair in a text (surrogates are not characters)")
        except (TypeError, ValueError, RecursionError) as error:
            self.fail(f"its header cannot be written as JSON ({str(error)[:200]})")
        return text, self.json(text)


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's."""
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is neither a text nor a number")


def is_text(value: Any) -> bool:
    """True for a string of whole characters: JSON can write half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_count(value: Any, limit: int = MAX_COUNT) -> bool:
    """True for a whole number from 0, which JSON's true is not."""
    return type(value) is int and 0 <= value <= limit


def is_number(value: Any, limit: float = 1e300) -> bool:
    """True for a finite number, which JSON's true is not."""
    if type(value) is int:
        return -limit <= value <= limit
    return type(value) is float and math.isfinite(value) and -limit <= value <= limit


def is_fact(value: Any) -> bool:
    """True for a fact about a run: a text, a finite number, a truth value or nothing."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**64) < value < 2**64
    return is_text(value) or is_number(value, math.inf)


def is_list_of_texts(value: Any) -> bool:
    """True for a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def is_size(value: Any, limit: int = 2**53) -> bool:
    """True for a height and a width of at least 1."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and 1 <= side <= limit for side in value)
    )


def check_image_size(size: Any, check: Check) -> None:
    """Height and width of an image, with or without one: its maps are made at that size."""
    check(is_size(size, 10**12), "its image size is not a size")
    height, width = size
    check(
        max(size) <= MAX_SIDE and height * width <= MAX_AREA,
        f"its image is {width} pixels wide and {height} high; a side may have {MAX_SIDE}, and all "
        f"together {MAX_AREA}",
    )


def is_token(token: Any) -> bool:
    """True for ``[text, kind, start, end]``, with a span exactly if the kind is text.

    ``[…, encoder, position]`` may follow, a text and a count or None.
    """
    if not (isinstance(token, list) and len(token) in (4, 6)):
        return False
    text, kind, start, end = token[:4]
    # JSON has true and false where Python would take them for 1 and 0.
    spanned = type(start) is type(end) is (int if kind == "text" else type(None))
    encoder, position = token[4:] or (None, None)
    placed = position is None or is_count(position, MAX_POSITION)
    named = encoder is None or is_text(encoder)
    return (
        is_text(text) and isinstance(kind, str) and kind in KINDS and spanned and named and placed
    )


def shown(value: Any) -> str:
    """A value in an error, cut short."""
    return str(value)[:80]
