"""RankedSequence: what all answers that rank words have in common."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any, Generic, TypeVar, overload

from diffusers_rdaam.attribution.prompt import Word, WordQuery
from diffusers_rdaam.errors import InputError, WordError

Entry = TypeVar("Entry")
_SHOWN = 6


class RankedSequence(Generic[Entry]):
    """One sequence of words, best first.

    Keys are of two kinds. A position or a slice means what iteration gives: ``ranked[0]`` is the
    best word, ``ranked[-1]`` the last, ``ranked[:3]`` the best three, each with its numbers. A
    word, a phrase, a ``(start, end)`` span of characters or a :class:`Word` is looked up in the
    prompt and gives a score: ``ranked["cat"]``. ``"cat" in ranked`` asks whether there is one.
    """

    @property
    def words(self) -> tuple[Entry, ...]:
        """Every word, best first."""
        raise NotImplementedError

    def score_of(self, query: WordQuery) -> float:
        """The score of a word, phrase or span.

        Raises:
            WordError: the prompt does not have it.
        """
        raise NotImplementedError

    def top(self, k: int = 5) -> tuple[Entry, ...]:
        """The first ``k`` words."""
        return self.words[:k]

    @overload
    def __getitem__(self, key: int) -> Entry: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Entry, ...]: ...

    @overload
    def __getitem__(self, key: str | tuple[int, int] | Word) -> float: ...

    def __getitem__(self, key: WordQuery | slice) -> Any:
        """The entry at a position, those of a slice, or the score of a word, phrase or span.

        Raises:
            InputError: there are fewer words.
            WordError: the prompt does not have the word.
        """
        if isinstance(key, slice):
            return self.words[key]
        # By __index__, so that numpy's integers are positions too.
        if hasattr(key, "__index__") and not isinstance(key, bool):
            place = index(key)  # type: ignore[arg-type]  # it was just asked for
            if not -len(self) <= place < len(self):
                raise InputError(
                    f"There are {len(self)} words, best first; {place} is not the position of one. "
                    'A score is asked for by the word: ["cat"].'
                )
            return self.words[place]
        return self.score_of(key)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __bool__(self) -> bool:
        # An answer without words is an answer.
        return True

    def __contains__(self, key: object) -> bool:
        if isinstance(key, (str, tuple, Word)):
            try:
                self.score_of(key)
            except InputError:
                return False
            return True
        return any(key is word or key == word for word in self.words)

    def index(self, key: str | Entry) -> int:
        """The position of a word, by its text or its entry: 0 is the best.

        Raises:
            WordError: it is none of the words.
        """
        for place, word in enumerate(self.words):
            text = getattr(word, "text", "")
            if word == key or (isinstance(key, str) and text.casefold() == key.casefold()):
                return place
        known = ", ".join(str(getattr(word, "text", word)) for word in self.words)
        raise WordError(f"{key!r} is not one of the ranked words: {known}.")

    def _repr_of(self, about: str, attribute: str) -> str:
        """One line with the first words and one of their numbers."""
        first = [
            f"{getattr(word, 'label', getattr(word, 'text', ''))} {getattr(word, attribute):.3g}"
            for word in self.words[:_SHOWN]
        ]
        more = len(self) - len(first)
        listed = ", ".join(first) if first else "no words"
        rest = f", and {more} more" if more > 0 else ""
        return f"{type(self).__name__}({about}by {attribute}: {listed}{rest})"
