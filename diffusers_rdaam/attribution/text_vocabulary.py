"""Vocabulary: the attributions of other texts, by the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from diffusers_rdaam.errors import InputError, NoAttributionError

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution


class Vocabulary(dict[str, "Attribution"]):
    """A dictionary that says what it has where a text is not in it."""

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
