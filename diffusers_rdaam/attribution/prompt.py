"""Token, Word, Prompt: which columns of the attention belong to which characters."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Literal, Union

from diffusers_rdaam.attribution.segment import find_phrase, word_spans
from diffusers_rdaam.errors import InputError, WordError

TokenKind = Literal["text", "start", "end", "padding", "unknown"]
WordQuery = Union[str, int, tuple[int, int], "Word"]


@dataclass(frozen=True)
class Token:
    """One column of the attention.

    Args:
        column: its index on the tokens' axis.
        text: what the tokenizer writes for it.
        kind: ``"text"``, a special (``"start"``, ``"end"``, ``"padding"``), or ``"unknown"`` where
            the text behind the embedding was not given.
        start, end: the characters of the prompt it stands for; only with kind ``"text"``.
    """

    column: int
    text: str
    kind: TokenKind
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        if {self.start is not None, self.end is not None} != {self.kind == "text"}:
            raise InputError(f"A token has a span exactly if it is text: {self!r}.")

    def overlaps(self, start: int, end: int) -> bool:
        """Whether it stands for any of the characters ``start`` to ``end`` (half-open)."""
        return (
            self.start is not None
            and self.end is not None
            and (self.start < end and start < self.end)
        )


@dataclass(frozen=True)
class Word:
    """A run of characters of the prompt and the columns of the tokens that overlap it.

    ``columns`` is empty where the text encoder did not see the word.
    """

    index: int
    text: str
    start: int
    end: int
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """What a query found: the spans in the prompt and the columns of all of them."""

    text: str
    spans: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt, its tokens (one per column, specials and padding included) and its words.

    Args:
        text: the text that was tokenized, or None for embeddings without a text.
        tokens: one per column, in order.
    """

    text: str | None
    tokens: tuple[Token, ...]

    def __post_init__(self) -> None:
        if [token.column for token in self.tokens] != list(range(len(self.tokens))):
            raise InputError("The tokens of a prompt must be its columns 0, 1, 2, … in order.")
        length = len(self.text or "")
        for token in self.tokens:
            if token.kind == "text" and not 0 <= token.start <= token.end <= length:  # type: ignore[operator]  # text has a span
                raise InputError(f"{token!r} lies outside the prompt of {length} characters.")

    @classmethod
    def without_text(cls, columns: int) -> Prompt:
        """Columns of an embedding whose text is not known: no words."""
        return cls(None, tuple(Token(i, f"[{i}]", "unknown") for i in range(columns)))

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """All words in order, those without a column included.

        A token that stands for several words, such as ``<cat-toy>`` of textual inversion, is one.
        """
        text = self.text or ""
        spans = word_spans(text)
        for token in self.tokens:
            first, last = token.start, token.end
            if first is not None and last is not None:
                inside = [span for span in spans if first <= span[0] and span[1] <= last]
                if len(inside) > 1:
                    spans = sorted({*spans, (first, last)} - set(inside))
        return tuple(
            Word(index, text[start:end], start, end, self.columns_of([(start, end)]))
            for index, (start, end) in enumerate(spans)
        )

    @property
    def lost_words(self) -> tuple[Word, ...]:
        """Words that the text encoder did not see; they have no column."""
        return tuple(word for word in self.words if not word.columns)

    def columns_of(self, spans: Iterable[tuple[int, int]]) -> tuple[int, ...]:
        """Columns of the tokens that overlap any of the character spans, sorted."""
        found = {
            token.column
            for start, end in spans
            for token in self.tokens
            if token.overlaps(start, end)
        }
        return tuple(sorted(found))

    def columns_of_kind(self) -> dict[str, tuple[int, ...]]:
        """Columns that belong to no word: specials, punctuation, and unknown ones, by kind."""
        in_words = {column for word in self.words for column in word.columns}
        kinds: dict[str, list[int]] = {}
        for token in self.tokens:
            if token.column not in in_words:
                kind = "punctuation" if token.kind == "text" else token.kind
                kinds.setdefault(kind, []).append(token.column)
        return {kind: tuple(columns) for kind, columns in kinds.items()}

    def find(self, query: WordQuery, *, occurrence: int | None = None) -> Match:
        """The columns that a query means.

        Args:
            query: a word or phrase; the index of a word; a ``(start, end)`` character span; or a
                :class:`Word`.
            occurrence: which one (from 0) where a word or phrase repeats; all if not given.

        Raises:
            WordError: the prompt has no such word, occurrence, index or span, or its end was cut
                off before it.
        """
        if self.text is None:
            raise WordError(
                "This image was made from prompt_embeds, so its columns have no words. Pass "
                "attribution_prompt='…' to the pipeline, or ask for attribution.column(index)."
            )
        if isinstance(query, str):
            spans = self._find_text(query, occurrence)
        elif occurrence is not None:
            raise WordError(f"occurrence= goes with a word or phrase, not with {query!r}.")
        else:
            spans = [self._find_span(query)]
        columns = self.columns_of(spans)
        label = self.text[spans[0][0] : spans[0][1]]
        if not columns:
            raise WordError(self._why_no_column(label, spans[0][1]))
        return Match(label, tuple(spans), columns)

    def _find_text(self, query: str, occurrence: int | None) -> list[tuple[int, int]]:
        spans = find_phrase(self.text or "", query)
        if not spans:
            raise WordError(self._not_found(query))
        if occurrence is None:
            return spans
        if isinstance(occurrence, bool) or not isinstance(occurrence, int):
            raise WordError(f"occurrence must be a whole number from 0, not {occurrence!r}.")
        if not 0 <= occurrence < len(spans):
            times = "once" if len(spans) == 1 else f"{len(spans)} times"
            raise WordError(
                f"{query!r} stands {times} in the prompt {self.text!r}, so occurrence must lie "
                f"in 0 to {len(spans) - 1}; got {occurrence}."
            )
        return [spans[occurrence]]

    def _find_span(self, query: int | tuple[int, int] | Word) -> tuple[int, int]:
        if isinstance(query, Word):
            if (self.text or "")[query.start : query.end] != query.text:
                raise WordError(f"{query!r} is a word of another prompt, not of {self.text!r}.")
            return (query.start, query.end)
        # By __index__, so that numpy's integers are numbers too.
        if hasattr(query, "__index__") and not isinstance(query, bool):
            query = index(query)  # type: ignore[arg-type]  # it was just asked for
            if not -len(self.words) <= query < len(self.words):
                raise WordError(
                    f"The prompt {self.text!r} has {len(self.words)} words; "
                    f"{query} is not the index of one."
                )
            return (self.words[query].start, self.words[query].end)
        try:
            start, end = map(index, query)  # type: ignore[arg-type]  # a bool: the error below
            valid = 0 <= start < end <= len(self.text or "")
        except (TypeError, ValueError):
            raise WordError(
                f"{query!r} is no word. Give a word or phrase, the index of a word, or a "
                "(start, end) span of characters."
            ) from None
        if not valid:
            raise WordError(
                f"The span ({start}, {end}) is not inside the prompt's {len(self.text or '')} "
                "characters, or is empty."
            )
        return (start, end)

    def _not_found(self, query: str) -> str:
        known = list(dict.fromkeys(word.text for word in self.words))
        if not known:
            return f"{query!r} is not a word of the prompt, which has none: {self.text!r}."
        close = difflib.get_close_matches(query, known, n=1, cutoff=0.8)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return (
            f"{query!r} is not a word of the prompt {self.text!r}. Words: {', '.join(known)}.{hint}"
        )

    def _why_no_column(self, label: str, end: int) -> str:
        seen = max((token.end or 0 for token in self.tokens), default=0)
        if end > seen:
            return (
                f"{label!r} stands behind the last position that the text encoder saw "
                f"({len(self.tokens)} tokens), so it made nothing. Shorten the prompt or move "
                "the word forward."
            )
        return f"No token stands for {label!r} in the prompt {self.text!r}."
