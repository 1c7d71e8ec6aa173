"""Token, Word, Prompt: which columns of the attention belong to which characters."""

from __future__ import annotations

import difflib
import textwrap
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from operator import index
from typing import Literal, Union

from diffusers_rdaam.attribution.word_spans import find_phrase, word_spans
from diffusers_rdaam.attribution.word_tokens import Span, joined_spans, placeholders, token_spans
from diffusers_rdaam.errors import InputError, WordError

# A template is what a pipeline writes around the prompt: a system prompt, the marks of a chat, the
# tokens of a reference picture. The rest is all that is none of the prompt's tokens.
TokenKind = Literal["text", "start", "end", "padding", "unknown", "template", "rest"]
WordQuery = Union[str, int, tuple[int, int], "Word"]
# The number of a text, from 1, or the name of a text encoder.
EncoderQuery = int | str
# Of a long text in an error, and of its words: the rest is cut.
_SHOWN_CHARACTERS = 1000
_SHOWN_WORDS = 100
# What a word that is not in the prompt is compared with, to say which was meant.
_COMPARED_WORDS = 2000
_COMPARED_CHARACTERS = 100
_ORDINALS = {1: "first", 2: "second", 3: "third"}


@dataclass(frozen=True)
class Token:
    """One column of the attention.

    Args:
        column: its index on the tokens' axis.
        text: what the tokenizer writes for it.
        kind: ``"text"``, a special (``"start"``, ``"end"``, ``"padding"``, ``"template"``), or
            ``"unknown"`` where the text behind the embedding was not given. ``"rest"`` is what none
            of the prompt's tokens gets, in one column; in one of several texts it is also a column
            of an encoder that reads another of them.
        start, end: the characters of the prompt it stands for; only with kind ``"text"``.
        encoder: the name of the text encoder that made it, such as ``"t5"``; None where all columns
            are of one encoder, or of two side by side.
        position: its column in the text embedding, where the maps have only some of those columns
            and it is another number than ``column``.
    """

    column: int
    text: str
    kind: TokenKind
    start: int | None = None
    end: int | None = None
    encoder: str | None = None
    position: int | None = None

    def __post_init__(self) -> None:
        if {self.start is not None, self.end is not None} != {self.kind == "text"}:
            raise InputError(f"A token has a span exactly if it is text: {self!r}.")

    def overlaps(self, start: int, end: int) -> bool:
        """True if the token stands for any of the characters ``start`` to ``end`` (half-open)."""
        return (
            self.start is not None
            and self.end is not None
            and (self.start < end and start < self.end)
        )


@dataclass(frozen=True)
class Word:
    """A run of characters of the prompt and the columns of the tokens that overlap it.

    Args:
        index: its number in ``prompt.words``.
        text: its characters.
        start, end: where it stands in its text.
        columns: of its tokens; empty where the text encoder did not see the word.
        encoder: the number of the text that it is of, where the prompt has several: 1 for
            ``prompt``, 2 for the next that is another text, as a rule ``prompt_2``.
    """

    index: int
    text: str
    start: int
    end: int
    columns: tuple[int, ...]
    encoder: int | None = None

    def __repr__(self) -> str:
        # As ever where there is one text.
        encoder = "" if self.encoder is None else f", encoder={self.encoder}"
        return (
            f"Word(index={self.index}, text={self.text!r}, start={self.start}, end={self.end}, "
            f"columns={self.columns}{encoder})"
        )


@dataclass(frozen=True)
class Match:
    """The result of a query: spans in the prompt and the columns of all of them.

    Args:
        text: what was found, as the prompt writes it.
        spans: where, as character spans.
        columns: of the tokens there, without repetition.
        encoders: for each span the number of the text that it is a span of, from 1; empty where
            the prompt has one text.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]
    encoders: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt, its tokens (one per column, specials and padding included) and its words.

    Stable Diffusion XL has two text encoders and puts their channels side by side, so a column
    stands for a token of ``prompt`` and, where it is another text, for one of ``prompt_2`` at the
    same time. Its words are those of both texts; attention does not distinguish the two in one
    column. Other models put the columns of several text encoders one behind the other. A word has
    the columns of every encoder that reads its text, and each token the name of its encoder.

    Args:
        text: the text that was tokenized, or None for embeddings without a text.
        tokens: one per column, in order.
        cut: characters of the tokens that no text encoder was given, because the prompt is too
            long; known where the text was tokenized, not in a file.
        further: the other texts that text encoders were given, such as ``prompt_2``, each with its
            tokens over the same columns.
    """

    text: str | None
    tokens: tuple[Token, ...]
    cut: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    further: tuple[Prompt, ...] = ()

    def __post_init__(self) -> None:
        if [token.column for token in self.tokens] != list(range(len(self.tokens))):
            raise InputError("The tokens of a prompt must be its columns 0, 1, 2, … in order.")
        length = len(self.text or "")
        for token in self.tokens:
            if token.kind == "text" and not 0 <= token.start <= token.end <= length:  # type: ignore[operator]  # text has a span
                raise InputError(f"{token!r} lies outside the prompt of {length} characters.")
        for other in self.further:
            self._check_further(other)

    def _check_further(self, other: Prompt) -> None:
        if self.text is None or other.text is None or other.further:
            raise InputError("A prompt has one text or several, each of them known.")
        if len(other.tokens) != len(self.tokens):
            raise InputError(
                f"The texts of a prompt have the same columns; these have {len(self.tokens)} "
                f"and {len(other.tokens)} tokens."
            )

    def __repr__(self) -> str:
        return f"Prompt({self.shortened}, {len(self.words)} words, {len(self.tokens)} tokens)"

    @property
    def shortened(self) -> str:
        """The prompt's text, or its texts, in quotes and cut where it is long; for one line."""
        return " and ".join(
            "no text" if one.text is None else repr(textwrap.shorten(one.text, 80, placeholder="…"))
            for one in self.texts
        )

    @classmethod
    def without_text(cls, columns: int) -> Prompt:
        """Columns of an embedding whose text is not known: no words."""
        return cls(None, tuple(Token(i, f"[{i}]", "unknown") for i in range(columns)))

    @property
    def texts(self) -> tuple[Prompt, ...]:
        """Each text separately: this prompt, or the first text encoder's and the others."""
        return (self._first, *self.further) if self.further else (self,)

    @cached_property
    def _first(self) -> Prompt:
        return replace(self, further=())

    @cached_property
    def encoders(self) -> tuple[str, ...]:
        """The names of the text encoders, in the order of their columns.

        Empty where all columns are of one encoder, or of two side by side.
        """
        first: dict[str, int] = {}
        for text in self.texts:
            for token in text.tokens:
                if token.encoder is not None:
                    first[token.encoder] = min(token.column, first.get(token.encoder, token.column))
        return tuple(sorted(first, key=first.__getitem__))

    @property
    def has_rest(self) -> bool:
        """Whether the last column is all that is none of the prompt's tokens."""
        return bool(self.tokens) and all(text.tokens[-1].kind == "rest" for text in self.texts)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """All words in order, those without a column included; of several texts the first's first.

        A token that stands for several words, such as ``<cat-toy>`` of textual inversion, is one. A
        sentence of a script without spaces is divided where its tokens are: a token of several
        characters is one word, and so are the byte tokens of one character.
        """
        if self.further:
            of_all = [
                replace(word, encoder=number)
                for number, text in enumerate(self.texts, 1)
                for word in text.words
            ]
            return tuple(replace(word, index=index) for index, word in enumerate(of_all))
        text = self.text or ""
        spans = joined_spans(text, self._runs, self._spans, self._placeholders)
        columns = _columns_by_span(self.tokens, spans)
        return tuple(
            Word(index, text[start:end], start, end, tuple(columns[index]))
            for index, (start, end) in enumerate(spans)
        )

    @cached_property
    def _runs(self) -> list[Span]:
        return word_spans(self.text or "")

    @cached_property
    def _spans(self) -> list[Span]:
        return token_spans(self.text or "", ((t.start, t.end) for t in self.tokens))

    @cached_property
    def _placeholders(self) -> list[Span]:
        return placeholders(self._runs, self._spans)

    @property
    def lost_words(self) -> tuple[Word, ...]:
        """Words that the text encoder did not see; they have no column."""
        return tuple(word for word in self.words if not word.columns)

    @property
    def partly_seen_words(self) -> tuple[Word, ...]:
        """Words that the prompt's end was cut in; their columns are those of the part seen."""
        found: list[Word] = []
        for number, text in enumerate(self.texts, 1):
            cut = _union(text.cut)
            starts, ends = [start for start, _ in cut], [end for _, end in cut]
            found += (
                word
                for word in self.words
                if word.encoder in (None, number)
                and word.columns
                and bisect_right(ends, word.start) < bisect_left(starts, word.end)
            )
        return tuple(found)

    def columns_of(self, spans: Iterable[tuple[int, int]]) -> tuple[int, ...]:
        """Columns of the tokens that overlap any of the text's character spans, sorted.

        Of several texts the first's; ``prompt.texts[1].columns_of(spans)`` are the second's.
        """
        return self._columns_of(spans, None)

    def _columns_of(self, spans: Iterable[tuple[int, int]], encoder: str | None) -> tuple[int, ...]:
        found = _columns_by_span(self._of(encoder), _union(spans))
        return tuple(sorted({column for columns in found for column in columns}))

    def columns_of_kind(self) -> dict[str, tuple[int, ...]]:
        """Columns that belong to no word: specials, punctuation, and unknown ones, by kind.

        Of several texts none has a word there. The kind is punctuation where one of them has text,
        else that of the first whose encoder has the column.
        """
        in_words = {column for word in self.words for column in word.columns}
        kinds: dict[str, list[int]] = {}
        for column in range(len(self.tokens)):
            if column not in in_words:
                same = [token.kind for token in self.tokens_at(column)]
                kind = "punctuation" if "text" in same else same[0]
                kinds.setdefault(kind, []).append(column)
        return {kind: tuple(columns) for kind, columns in kinds.items()}

    def tokens_at(self, column: int) -> tuple[Token, ...]:
        """The tokens of one column: of each text whose encoder has it, or that of the rest."""
        tokens = [text.tokens[column] for text in self.texts]
        return tuple(token for token in tokens if token.kind != "rest") or (tokens[0],)

    def find(
        self,
        query: WordQuery,
        *,
        occurrence: int | None = None,
        encoder: EncoderQuery | None = None,
    ) -> Match:
        """The columns that a query means.

        Args:
            query: a word or phrase; the index of a word; a ``(start, end)`` character span; or a
                :class:`Word`.
            occurrence: which one (from 0) where a word or phrase repeats; all if not given. Of
                several texts the first's are counted first.
            encoder: the name of a text encoder, such as ``"t5"``: only its columns, and of the
                texts the one that it reads. Or a number from 1, where the prompt has several texts:
                the one in which a word, phrase or span is looked up. Without it a word or phrase is
                looked up in all of them, and a span in the first; an index and a :class:`Word` are
                of one text already.

        Raises:
            WordError: the prompt has no such word, occurrence, index, span, text or encoder, or its
                end was cut off before it.
        """
        if self.text is None:
            raise WordError(
                "This image was made from prompt_embeds, so its columns have no words. Pass "
                "attribution_prompt='…' to the pipeline, or ask for attribution.column(index)."
            )
        texts = self._texts_of(encoder)
        if isinstance(query, str):
            places = self._find_text(query, occurrence, texts)
        elif occurrence is not None:
            raise WordError(f"occurrence= goes with a word or phrase, not with {query!r}.")
        else:
            places = self._find_span(query, texts)
        name = encoder if isinstance(encoder, str) else None
        columns: set[int] = set()
        for number, text in enumerate(self.texts, 1):
            columns.update(text._columns_of((s for where, s in places if where == number), name))
        number, (start, end) = places[0]
        first = self.texts[number - 1]
        label = (first.text or "")[start:end]
        if not columns:
            raise WordError(first._why_no_column(label, end, name))
        encoders = tuple(number for number, _ in places) if self.further else ()
        return Match(label, tuple(span for _, span in places), tuple(sorted(columns)), encoders)

    def _of(self, encoder: str | None) -> tuple[Token, ...]:
        """The tokens that the text encoder of this name has made; all of them for None."""
        if encoder is None:
            return self.tokens
        return tuple(token for token in self.tokens if token.encoder == encoder)

    def _texts_of(self, encoder: EncoderQuery | None) -> tuple[int, ...]:
        """The numbers of the texts that ``find`` looks into."""
        numbers = tuple(range(1, len(self.texts) + 1))
        if encoder is None:
            return numbers
        if isinstance(encoder, str):
            named = tuple(n for n, text in enumerate(self.texts, 1) if text._of(encoder))
            if named:
                return named
            if not self.encoders:
                raise WordError(
                    f"The columns of the prompt {self._shown} are not named by text encoders: one "
                    f"made all of them, or two side by side. Leave out encoder={encoder!r}."
                )
            raise WordError(
                f"{encoder!r} is not a text encoder of the prompt {self._shown}. Its text "
                f"encoders: {', '.join(self.encoders)}."
            )
        if isinstance(encoder, bool) or encoder not in (1, 2, *numbers):
            count = " or ".join(map(str, numbers if len(numbers) > 1 else (1, 2)))
            names = ", ".join(map(repr, self.encoders))
            or_name = f", or one of the names {names}" if names else ""
            raise WordError(
                f"encoder= is {count}, a text encoder's number{or_name}; got {encoder!r}."
            )
        if encoder not in numbers:
            raise WordError(
                f"The prompt {self._shown} is one text for every text encoder, so there is no "
                "second one to ask for. Leave out encoder=."
            )
        return (encoder,)

    def _find_text(
        self, query: str, occurrence: int | None, texts: tuple[int, ...]
    ) -> list[tuple[int, Span]]:
        """The places of a word or phrase: the number of the text, and the span in it."""
        places: list[tuple[int, Span]] = []
        refused: list[str] = []
        for number in texts:
            try:
                places += [(number, span) for span in self.texts[number - 1]._spans_of(query)]
            except WordError as error:
                which = f" In the {_ORDINALS.get(number, f'{number}th')} text encoder's: "
                refused += [which, str(error)] if refused else [str(error)]
        if not places:
            raise WordError("".join(refused))
        if occurrence is None:
            return places
        if isinstance(occurrence, bool) or not isinstance(occurrence, int):
            raise WordError(f"occurrence= is a whole number from 0; got {occurrence!r}.")
        if not 0 <= occurrence < len(places):
            shown = self._shown if len(texts) != 1 else self.texts[texts[0] - 1]._shown
            raise WordError(
                f"{query!r} occurs {times(len(places))} in the prompt {shown}, so occurrence= "
                f"lies in 0 to {len(places) - 1}; got {occurrence}."
            )
        return [places[occurrence]]

    def _spans_of(self, query: str) -> list[Span]:
        borders = {place for span in self._placeholders for place in span}
        everywhere = find_phrase(self.text or "", query, borders)
        spans = [span for span in everywhere if self._placeholder_around(span) is None]
        if not spans:
            around = self._placeholder_around(everywhere[0]) if everywhere else None
            raise WordError(
                self._not_found(query) if around is None else self._in_placeholder(query, around)
            )
        return spans

    def _find_span(
        self, query: int | tuple[int, int] | Word, texts: tuple[int, ...]
    ) -> list[tuple[int, Span]]:
        """The places of a query that is not a text: one, or several of a word of several texts."""
        if isinstance(query, Word):
            places = [
                (number, (query.start, query.end))
                for number, text in enumerate(self.texts, 1)
                if query.encoder in (None, number)
                and number in texts
                and (text.text or "")[query.start : query.end] == query.text
            ]
            if not places:
                raise WordError(f"{query!r} is a word of another prompt, not of {self._shown}.")
            return places
        # By __index__, so that numpy's integers are numbers too.
        if hasattr(query, "__index__") and not isinstance(query, bool):
            query = index(query)  # type: ignore[arg-type]  # it was just asked for
            if not -len(self.words) <= query < len(self.words):
                raise WordError(
                    f"The prompt {self._shown} has {len(self.words)} words; "
                    f"{query} is not the index of one."
                )
            word = self.words[query]
            if word.encoder is not None and word.encoder not in texts:
                raise WordError(
                    f"Word {query} is of the text of encoder {word.encoder}, not of "
                    f"{' and '.join(map(str, texts))}: an index counts the words of all texts. "
                    "Leave out encoder=."
                )
            return [(word.encoder or 1, (word.start, word.end))]
        number = texts[0]
        length = len(self.texts[number - 1].text or "")
        try:
            start, end = map(index, query)  # type: ignore[arg-type]  # a bool: the error below
            valid = 0 <= start < end <= length
        except (TypeError, ValueError):
            raise WordError(
                f"{query!r} is not a word. Give a word or phrase, the index of a word, or a "
                "(start, end) span of characters."
            ) from None
        if not valid:
            raise WordError(
                f"The span ({start}, {end}) is not inside the prompt's {length} "
                "characters, or is empty."
            )
        return [(number, (start, end))]

    def _placeholder_around(self, span: Span) -> Span | None:
        """The placeholder that the span is a part of, or has a part of."""
        found = self._placeholders
        for place in range(max(bisect_left(found, span) - 1, 0), len(found)):
            start, end = found[place]
            if start >= span[1]:
                break
            if span[0] < end and not span[0] <= start < end <= span[1]:
                return (start, end)
        return None

    @property
    def _shown(self) -> str:
        texts = [one.text or "" for one in self.texts]
        cut = [text[:_SHOWN_CHARACTERS] + "…" * (len(text) > _SHOWN_CHARACTERS) for text in texts]
        return " and ".join(map(repr, cut))

    def _in_placeholder(self, query: str, around: Span) -> str:
        placeholder = (self.text or "")[slice(*around)]
        return (
            f"{query!r} occurs in the prompt only within {placeholder!r}, which the tokenizer "
            f"knows as one token, so it is not a word there. Ask for {placeholder!r}."
        )

    def _not_found(self, query: str) -> str:
        words = dict.fromkeys(word.text for word in self.words)
        known = list(islice(words, _COMPARED_WORDS))
        if not known:
            return f"{query!r} is not a word of the prompt, which has none: {self._shown}."
        short = [word for word in known if len(word) <= _COMPARED_CHARACTERS]
        close = difflib.get_close_matches(query[:_COMPARED_CHARACTERS], short, n=1, cutoff=0.8)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        names = ", ".join(known[:_SHOWN_WORDS]) + (", …" if len(words) > _SHOWN_WORDS else "")
        return f"{query!r} is not a word of the prompt {self._shown}. Words: {names}.{hint}"

    def _why_no_column(self, label: str, end: int, encoder: str | None) -> str:
        tokens = self._of(encoder)
        seen = max((token.end or 0 for token in tokens), default=0)
        if end > seen:
            which = "the text encoder" if encoder is None else f"the text encoder {encoder!r}"
            return (
                f"{label!r} stands behind the last position that {which} saw "
                f"({len(tokens)} tokens), so it made nothing. Shorten the prompt or move "
                "the word forward."
            )
        if end <= min((token.start for token in tokens if token.start is not None), default=0):
            return (
                f"{label!r} stands before the first position whose token the pipeline kept, so it "
                "has no column. Begin the prompt with other words."
            )
        if encoder is not None:
            return f"No token of the text encoder {encoder!r} stands for {label!r}."
        return f"No token stands for {label!r} in the prompt {self._shown}."


def encoders_of(words: Iterable[Word]) -> tuple[int, ...]:
    """The numbers of the texts that the words are of; none where a prompt has one text."""
    return tuple(sorted({word.encoder for word in words if word.encoder is not None}))


def labelled(text: str, encoders: Iterable[int]) -> str:
    """A word and, where a prompt has several texts, which it is of: ``cat (encoder 2)``."""
    numbers = [str(number) for number in encoders]
    if not numbers:
        return text
    return f"{text} (encoder{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)})"


def _union(spans: Iterable[Span]) -> list[Span]:
    """The same characters as spans in order that do not overlap."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if union and start < union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def _columns_by_span(tokens: Iterable[Token], spans: list[Span]) -> list[list[int]]:
    """For each of the spans, which are in order and do not overlap, the columns of its tokens."""
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    columns: list[list[int]] = [[] for _ in spans]
    for token in tokens:
        if token.start is not None and token.end is not None:
            # As in Token.overlaps, for each of the spans between.
            first, last = bisect_right(ends, token.start), bisect_left(starts, token.end)
            for place in range(first, last):
                columns[place].append(token.column)
    return columns


def times(count: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
