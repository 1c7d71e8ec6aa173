"""GivenText: what a tokenizer is given, and which of the user's characters each of it stands for.

Between the prompt and the tokenizer a pipeline cleans, lower-cases and frames the text, and textual
inversion writes one token as several. A token's offsets point into what came out of all that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from diffusers_rdaam.errors import InputError

Place = tuple[int, int]
# Of the private-use area, so that it is in no template.
_MARK = "\ue000"


@dataclass(frozen=True)
class GivenText:
    """A text that a tokenizer is given.

    Args:
        written: what the user wrote.
        given: what the tokenizer is given.
        places: for each character of ``given`` the span of ``written`` that it stands for; None
            for a character of a template.
    """

    written: str
    given: str
    places: tuple[Place | None, ...]

    @classmethod
    def of(cls, written: str) -> GivenText:
        """The text as the user wrote it."""
        return cls(written, written, tuple((i, i + 1) for i in range(len(written))))

    def cleaned(self, given: str) -> GivenText:
        """The text after a step that cleans it.

        Letter case, white space and what was left out are mapped back to the user's characters.
        Where anything else was changed, the cleaned text counts as what the user wrote.
        """
        kept = _kept(self.given, given)
        if kept is None:
            return GivenText.of(given)
        return replace(self, given=given, places=tuple(self.places[i] for i in kept))

    def without(self, part: str) -> GivenText:
        """The text with every occurrence of a part of it left out."""
        given = ""
        places: tuple[Place | None, ...] = ()
        place = 0
        while (at := self.given.find(part, place)) >= 0:
            given, places = given + self.given[place:at], places + self.places[place:at]
            place = at + len(part)
        return replace(self, given=given + self.given[place:], places=places + self.places[place:])

    def __getitem__(self, part: slice) -> GivenText:
        """Some of the characters in a row."""
        return replace(self, given=self.given[part], places=self.places[part])

    def converted(self, pipe: Any, tokenizer: Any) -> GivenText:
        """The text as textual inversion writes it: a token of several vectors as several tokens."""
        convert = getattr(pipe, "maybe_convert_prompt", None)
        given = self.given if convert is None else convert(self.given, tokenizer)
        if given == self.given:
            return self
        spans = converted_places(tokenizer, self.given, given)
        if spans is None:
            return GivenText.of(given)
        return replace(self, given=given, places=tuple(self._span(*span) for span in spans))

    def framed(self, before: str, after: str = "") -> GivenText:
        """The text with a template's characters before and after it."""
        return replace(
            self,
            given=before + self.given + after,
            places=(*(None,) * len(before), *self.places, *(None,) * len(after)),
        )

    def formatted(self, template: str) -> GivenText:
        """The text in a template of ``str.format`` with one unnamed field.

        Braces of the text itself are not fields.

        Raises:
            InputError: the template has another number of fields.
        """
        parts = list(Formatter().parse(template))
        fields = [index for index, (_, name, _, _) in enumerate(parts) if name is not None]
        if len(fields) != 1:
            raise InputError(f"The template {template!r:.100} has {len(fields)} fields, not one.")
        literals = [literal for literal, _, _, _ in parts]
        # A field comes behind the literal of its part.
        first = fields[0] + 1
        return self.framed("".join(literals[:first]), "".join(literals[first:]))

    def rendered(self, render: Callable[[str], str]) -> GivenText:
        """The text in a chat template, which may leave out white space at its ends.

        Args:
            render: the template's text around a prompt.

        Raises:
            InputError: the template changes the prompt itself.
        """
        before, mark, after = render(_MARK).partition(_MARK)
        given = render(self.given)
        inside = given[len(before) : len(given) - len(after)]
        fits = mark and given.startswith(before) and given.endswith(after)
        kept = _kept(self.given, inside) if fits else None
        if kept is None:
            raise InputError(
                "The chat template of the tokenizer changes the prompt, so its words cannot be "
                "found. Ask for columns by number with attribution.column(index)."
            )
        return self.cleaned(inside).framed(before, after)

    def span_of(self, start: int, end: int) -> Place | None:
        """The user's characters that some of the given ones stand for, without outer white space.

        None where all of them are of a template.
        """
        span = self._span(start, end)
        if span is None:
            return None
        first, last = span
        while first < last and self.written[first].isspace():
            first += 1
        while first < last and self.written[last - 1].isspace():
            last -= 1
        return (first, last)

    def _span(self, start: int, end: int) -> Place | None:
        spans = [place for place in self.places[start:end] if place is not None]
        if not spans:
            return None
        return (min(first for first, _ in spans), max(last for _, last in spans))


def _kept(before: str, after: str) -> list[int] | None:
    """For each character after a step the one before it; None where that is not plain.

    Characters may have been left out at the ends and where white space is, and be in lower case.
    """
    letters = [(i, part) for i, letter in enumerate(before) for part in letter.lower()]
    lowered = after.lower()
    if len(lowered) != len(after):
        # A letter whose lower case is several was kept as it is.
        letters, lowered = list(enumerate(before)), after
    kept: list[int] = []
    place = 0
    for letter in lowered:
        while place < len(letters) and not _same(letters[place][1], letter):
            if not letters[place][1].isspace():
                return None
            place += 1
        if place == len(letters):
            return None
        kept.append(letters[place][0])
        place += 1
    return kept if all(part.isspace() for _, part in letters[place:]) else None


def _same(one: str, other: str) -> bool:
    # The sigma at the end of a word has another lower case; white space becomes a space.
    return one == other or {one, other} <= {"σ", "ς"} or (one.isspace() and other.isspace())


def converted_places(tokenizer: Any, written: str, converted: str) -> list[Place] | None:
    """For each character of the converted text the written ones that it stands for."""
    added = getattr(tokenizer, "added_tokens_encoder", {})
    places: list[Place] = []
    index = 0
    while index < len(written):
        # The longest first: one token's name may begin with another's.
        for name in sorted((n for n in added if written.startswith(n, index)), key=len)[::-1]:
            whole = " ".join([name, *_vectors(added, name)])
            if converted.startswith(whole, len(places)):
                places += [(index, index + len(name))] * len(whole)
                index += len(name)
                break
        else:
            if converted[len(places) : len(places) + 1] != written[index]:
                return None
            places.append((index, index + 1))
            index += 1
    return places if len(places) == len(converted) else None


def _vectors(added: Any, name: str) -> list[str]:
    count = 1
    while f"{name}_{count}" in added:
        count += 1
    return [f"{name}_{index}" for index in range(1, count)]
