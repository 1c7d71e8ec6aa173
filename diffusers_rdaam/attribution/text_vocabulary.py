"""Vocabulary: the attributions of other texts, by the text."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from diffusers_rdaam.errors import InputError, NoAttributionError

Part = TypeVar("Part")


class Vocabulary(dict[str, Part]):
    """A dictionary of attributions by text; the error for another text lists the texts."""

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
