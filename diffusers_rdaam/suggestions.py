"""What an error suggests in place of a name that is not known: the nearest one, and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from diffusers_rdaam.errors import InputError

_SHOWN = 60


def nearest(name: Any, choices: Iterable[str]) -> str | None:
    """The choice that is spelt most like ``name``; None where none is near."""
    known = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(str(name)[:200].casefold(), list(known), n=1, cutoff=0.6)
    return known[close[0]] if close else None


def unknown_name(name: Any, choices: Iterable[str], kind: str, plural: str | None = None) -> str:
    """The text for a name that is none of the choices.

    Args:
        name: what came.
        choices: what is known.
        kind: what ``name`` should have been, with its article: ``"a ranking"``.
        plural: the title of the list; made from ``kind`` if not given.
    """
    choices = list(choices)
    close = nearest(name, choices)
    hint = "" if close is None else f" Did you mean {close!r}?"
    title = plural or kind.split(" ", 1)[-1].capitalize() + "s"
    shown = repr(name) if len(repr(name)) <= _SHOWN else repr(name)[: _SHOWN - 1] + "…"
    return f"{shown} is not {kind}.{hint} {title}: {', '.join(map(repr, choices))}."


def check_keywords(
    given: Mapping[str, Any], known: Iterable[str], function: str, *, error: type = InputError
) -> None:
    """Refuse keywords that a function does not have.

    Args:
        given: the keywords that came.
        known: those that the function has.
        function: its name, as a user writes it: ``"explain_gradient"``, or a call of it.
        error: the class that is raised.

    Raises:
        InputError: one of them is not known; the text names the nearest that is.
    """
    known = list(known)
    for name in given:
        if name not in known:
            close = nearest(name, known)
            hint = "" if close is None else f" Did you mean {close}=?"
            listed = ", ".join(f"{choice}=" for choice in known)
            rest = f"Arguments: {listed}." if listed else "It takes none."
            called = function if function.endswith(")") else f"{function}()"
            raise error(f"{called} has no argument {name!r}.{hint} {rest}")
