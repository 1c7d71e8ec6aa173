"""Vocabulary: the attributions of other texts, by the text."""

from __future__ import annotations

from html import escape
from typing import NoReturn, TypeVar

from diffusers_rdaam.errors import InputError, NoAttributionError

Part = TypeVar("Part")
# Texts that are shown.
SHOWN = 5


class Vocabulary(dict[str, Part]):
    """A dictionary of attributions by text; the error for another text lists the texts."""

    def __repr__(self) -> str:
        texts = [repr(text if len(text) <= 40 else f"{text[:39]}…") for text in self]
        more = f", and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
        count = f"{len(texts)} text{'' if len(texts) == 1 else 's'}"
        return f"Vocabulary({count}{': ' if texts else ''}{', '.join(texts[:SHOWN])}{more})"

    def _repr_html_(self) -> str:
        """Each text's attribution."""
        shown = [part._repr_html_() for part in list(self.values())[:SHOWN]]  # type: ignore[attr-defined]  # parts are attributions
        return f"<div><p>{escape(repr(self))}</p>{''.join(shown)}</div>"

    def __missing__(self, text: object) -> NoReturn:
        """Raise.

        Raises:
            NoAttributionError: the run was given no texts.
            InputError: it was not given this one.
        """
        if not self:
            raise NoAttributionError(
                "This run was given no other texts. Name them before it, with "
                "pipe(…, attribution_vocabulary=[…]), or keep queries and ask pipe.query after it."
            )
        raise InputError(
            f"{text!r} is not in the vocabulary of this run. Texts: "
            f"{', '.join(repr(known) for known in self)}. Ask for a word of one with "
            "attribution.vocabulary[text].word(word)."
        )
