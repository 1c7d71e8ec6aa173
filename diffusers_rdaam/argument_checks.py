"""Checks of arguments that many functions share: a choice, a count, a number, a share."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any, get_args

import numpy as np

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.suggestions import unknown_name


def check_choice(
    value: Any,
    choices: Any,
    kind: str,
    *,
    plural: str | None = None,
    error: type[Exception] = InputError,
) -> None:
    """Refuse a value that is not one of the names of a ``Literal``.

    Args:
        value: what came.
        choices: the ``Literal`` type.
        kind: what the value should have been, with its article: ``"a ranking"``.
        plural: the title of the list of names; made from ``kind`` if not given.
        error: the class that is raised.

    Raises:
        InputError: the value is not one of the names; the text has the nearest, and all of them.
    """
    if not isinstance(value, str) or value not in get_args(choices):
        raise error(unknown_name(value, get_args(choices), kind, plural))


def check_count(
    value: Any, name: str, *, least: int = 1, error: type[Exception] = InputError
) -> int:
    """A whole number of ``least`` or more, as an int; whole numbers of numpy and torch are such.

    Args:
        value: what came.
        name: of the argument, as a user writes it: ``"every="``.
        least: the smallest number that is allowed.
        error: the class that is raised.

    Raises:
        InputError: the value is not a whole number, or is smaller.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = least - 1
    if number < least:
        raise error(f"{name} is a whole number from {least}; got {value!r}.")
    return number


def check_share(value: Any, name: str) -> float:
    """A number from 0 to 1 as a float.

    Args:
        value: what came.
        name: of the number, with its article: ``"An opacity"``.

    Raises:
        InputError: the value is not such a number.
    """
    number = real_number(value)
    if number is None or not 0.0 <= number <= 1.0:
        raise InputError(f"{name} lies in [0, 1]; got {value!r}.")
    return number


def check_threshold(value: Any, of: str) -> float:
    """A number from 0 and below 1 as a float.

    Args:
        value: what came.
        of: where the threshold lies: ``"the map stretched to 0 to 1"``.

    Raises:
        InputError: the value is not such a number.
    """
    number = real_number(value)
    if number is None or not 0.0 <= number < 1.0:
        raise InputError(f"A threshold lies in [0, 1), on {of}; got {value!r}.")
    return number


def scalar(value: Any) -> Any:
    """The number in an array or tensor without axes; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except RuntimeError:
            # A meta tensor holds no number.
            return value
    return value


def real_number(value: Any) -> float | None:
    """A finite number as a float, or None for anything else, a bool and NaN included."""
    number = scalar(value)
    if isinstance(number, (bool, np.bool_)) or not isinstance(number, numbers.Real):
        return None
    try:
        found = float(number)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
