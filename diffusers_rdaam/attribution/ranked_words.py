"""RankedSequence: the base of all answers that rank words, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt, Word, WordQuery, encoders_of, labelled
from diffusers_rdaam.attribution.prompt_html import coloured_prompt
from diffusers_rdaam.errors import InputError, PandasExtraError, WordError
from diffusers_rdaam.geometry.region import Box, Polygon, Region

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Entry = TypeVar("Entry")
_SHOWN = 6
_BAR = 24


class WordOfPrompt:
    """A word of the prompt, all its occurrences together; subclasses have its numbers."""

    text: str
    occurrences: tuple[Word, ...]

    @property
    def encoders(self) -> tuple[int, ...]:
        """Which texts the word is of where the prompt has several: ``(1,)`` or ``(1, 2)``."""
        return encoders_of(self.occurrences)

    @property
    def label(self) -> str:
        """The word and, where the prompt has several texts, which it is of."""
        return labelled(self.text, self.encoders)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The character spans of the word in the prompt."""
        return tuple((word.start, word.end) for word in self.occurrences)


def grouped(prompt: Prompt) -> dict[str, list[Word]]:
    """The words that have a column, all occurrences of one together, by the first's text."""
    names: dict[str, str] = {}
    groups: dict[str, list[Word]] = {}
    for word in prompt.words:
        if word.columns:
            name = names.setdefault(word.text.casefold(), word.text)
            groups.setdefault(name, []).append(word)
    return groups


def name_of_region(region: Region | None) -> str:
    """Such as ``"Box (9, 65, 58, 115)"``, ``"Polygon of 5 points"``, ``"Mask"``."""
    if region is None:
        return "Whole image"
    if isinstance(region, Box):
        return f"Box {region.as_tuple()}"
    if isinstance(region, Polygon):
        return f"Polygon of {len(region.points)} points"
    return type(region).__name__


class RankedSequence(Generic[Entry]):
    """One sequence of words, best first.

    Keys are of two kinds. A position or a slice means what iteration gives: ``ranked[0]`` is the
    best word, ``ranked[-1]`` the last, ``ranked[:3]`` the best three, each with its numbers. A
    word, a phrase, a ``(start, end)`` span of characters or a :class:`Word` is looked up in the
    prompt and gives a score: ``ranked["cat"]``. ``"cat" in ranked`` asks whether there is one.

    ``print(ranked)`` is a table with a bar for each word; a notebook shows the region, the prompt
    in colours and the table.
    """

    # The attributes of a word that are shown, and how; the first ranks, unless a subclass says.
    COLUMNS: ClassVar[dict[str, str]] = {}

    prompt: Prompt
    region: Region | None
    image: Image.Image | None

    @property
    def title(self) -> str:
        """One line that names the region and the numbers."""
        return f"{name_of_region(self.region)}: words ranked by {self._ranked_by()}"

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
                    'The score of a word: ["cat"].'
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

    def remarks(self) -> list[str]:
        """Lines to read before the table."""
        return []

    def notes(self) -> list[str]:
        """Lines below the table."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON; ``"encoders"`` only where there are several texts."""
        return {
            "words": [
                {"word": _text(word), **{name: getattr(word, name) for name in self.COLUMNS}}
                | ({"encoders": list(encoders)} if (encoders := _encoders(word)) else {})
                for word in self.words
            ]
        }

    def to_pandas(self) -> DataFrame:
        """A table of pandas: a row for each word, best first, and the columns of :meth:`to_dict`.

        Raises:
            PandasExtraError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise PandasExtraError(
                'Tables need pandas. Install it with: pip install "diffusers_rdaam[pandas]"'
            ) from None
        return DataFrame(self.to_dict()["words"])

    def plot(self) -> Figure:
        """A matplotlib figure: the region in the image, and the words as bars (extra ``plot``)."""
        from diffusers_rdaam.drawing.figure import bars_figure

        name = self._ranked_by()
        bars = [(_label(word), getattr(word, name)) for word in self.words]
        edges = [] if self.region is None else self.region.edges()
        start, _ = self._scale()
        # As in the table: a figure of a background box says that no word made it.
        title = "\n".join([*self.remarks(), self.title])
        return bars_figure(bars, name, self.image, edges, level=start or None, title=title)

    def _ranked_by(self) -> str:
        """The attribute that ranks the words."""
        return next(iter(self.COLUMNS))

    def _scale(self) -> tuple[float, float]:
        """The values of an empty and of a full bar."""
        name = self._ranked_by()
        return 0.0, max([abs(getattr(word, name)) for word in self.words], default=0.0)

    def __str__(self) -> str:
        """A table with one bar a word; what to know first above it, the other columns below."""
        if not len(self):
            return "(no words)"
        cells = [["word", *self.COLUMNS], *self._rows()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join([f"{row[0]:<{widths[0]}}", *map(str.rjust, row[1:], widths[1:])])
            for row in cells
        ]
        for place, strength in enumerate(self._strengths(), 1):
            lines[place] = f"{lines[place]}  {'█' * round(_BAR * strength)}".rstrip()
        return "\n".join([*self.remarks(), self.title, *lines, *self.notes()])

    def _strengths(self) -> list[float]:
        """The length of each word's bar, 0 to 1."""
        start, stop = self._scale()
        length = max(stop - start, 1e-30)
        values = [getattr(word, self._ranked_by()) for word in self.words]
        return [min(max(value - start, 0.0) / length, 1.0) for value in values]

    def _rows(self) -> list[list[str]]:
        return [
            [
                _label(word),
                *(format(getattr(word, name), how) for name, how in self.COLUMNS.items()),
            ]
            for word in self.words
        ]

    def _repr_html_(self) -> str:
        from html import escape

        from diffusers_rdaam.drawing.html import ground_scale, picture, table
        from diffusers_rdaam.drawing.overlay import outline

        name = self._ranked_by()
        places = [
            (encoder, start, end, strength, f"{name} {getattr(word, name):.3g}")
            for word, strength in zip(self.words, self._strengths(), strict=True)
            for encoder, start, end in _places(word)
        ]
        parts = []
        if self.image is not None and self.region is not None:
            parts.append(picture(outline(self.image, self.region.edges()), "the region"))
        elif self.image is not None:
            parts.append(picture(self.image, "the image"))
        parts += [f"<p>{escape(line)}</p>" for line in (*self.remarks(), self.title)]
        parts.append(coloured_prompt(self.prompt, places))
        if places:
            parts.append(ground_scale(*self._scale(), name))
        parts.append(table(["word", *self.COLUMNS], self._rows()))
        parts += [f"<p>{escape(line)}</p>" for line in self.notes()]
        return f"<div>{''.join(parts)}</div>"

    def __repr__(self) -> str:
        return self._repr_of("", self._ranked_by())

    def _repr_of(self, about: str, attribute: str) -> str:
        """One line with the first words and one of their numbers."""
        first = [f"{_label(word)} {getattr(word, attribute):.3g}" for word in self.words[:_SHOWN]]
        more = len(self) - len(first)
        listed = ", ".join(first) if first else "no words"
        rest = f", and {more} more" if more > 0 else ""
        return f"{type(self).__name__}({about}by {attribute}: {listed}{rest})"


def _label(word: Any) -> str:
    """An entry's word, and whose text it is of; phrases of an ablation have a text only."""
    return getattr(word, "label", word.text)


def _text(word: Any) -> str:
    return word.text


def _encoders(word: Any) -> tuple[int, ...]:
    return getattr(word, "encoders", ())


def _places(word: Any) -> list[tuple[int, int, int]]:
    """The encoder and the character span of each occurrence of an entry."""
    if hasattr(word, "occurrences"):
        return [(one.encoder or 1, one.start, one.end) for one in word.occurrences]
    return [(1, start, end) for start, end in word.spans]
