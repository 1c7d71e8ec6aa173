"""RankedWords: words of a region with numbers, as a table, a figure and HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from diffusers_rdaam.attribution.prompt import Prompt, Word
from diffusers_rdaam.attribution.ranked_words import RankedSequence
from diffusers_rdaam.geometry.region import Region

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR = 24


def grouped(prompt: Prompt) -> dict[str, list[Word]]:
    """The words that have a column, all occurrences of one together, by the first's text."""
    names: dict[str, str] = {}
    groups: dict[str, list[Word]] = {}
    for word in prompt.words:
        if word.columns:
            name = names.setdefault(word.text.casefold(), word.text)
            groups.setdefault(name, []).append(word)
    return groups


@dataclass(frozen=True, eq=False, repr=False)
class RankedWords(RankedSequence[Any]):
    """Words of a region, best first; subclasses say by what.

    One sequence, see :class:`RankedSequence` for its keys.

    Args:
        prompt: whose words they are.
        region: what was asked; None for the whole image.
        image: that was explained.
    """

    # The attributes of a word that are shown, the one that ranks first, and how.
    COLUMNS: ClassVar[dict[str, str]] = {}

    prompt: Prompt = field(repr=False)
    region: Region | None
    image: Image.Image = field(repr=False)

    @property
    def title(self) -> str:
        """What the numbers are, in a line."""
        raise NotImplementedError

    @property
    def words(self) -> tuple[Any, ...]:
        """Every word, best first; ties in prompt order."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What is said below the table."""
        return []

    def __repr__(self) -> str:
        return self._repr_of("", next(iter(self.COLUMNS)))

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and texts, for JSON."""
        return {
            "words": [
                {"word": word.text, **{name: getattr(word, name) for name in self.COLUMNS}}
                for word in self.words
            ]
        }

    def plot(self) -> Figure:
        """A matplotlib figure: the region in the image, and the words as bars (extra ``plot``)."""
        from diffusers_rdaam.drawing.figure import bars_figure

        name = next(iter(self.COLUMNS))
        bars = [(word.text, getattr(word, name)) for word in self.words]
        edges = [] if self.region is None else self.region.edges()
        return bars_figure(bars, f"{name}: {self.title}", self.image, edges)

    def __str__(self) -> str:
        """A small table, one bar a word."""
        if not self.words:
            return "(no words)"
        rows = self._rows()
        width = max(len(word.text) for word in self.words)
        first = next(iter(self.COLUMNS))
        highest = max(abs(getattr(word, first)) for word in self.words) or 1.0
        lines = [self.title, f"{'word':<{width}}" + "".join(f"  {n:>9}" for n in self.COLUMNS)]
        for word, row in zip(self.words, rows, strict=True):
            bar = "█" * round(_BAR * max(getattr(word, first), 0.0) / highest)
            cells = "".join(f"  {cell:>9}" for cell in row[1:])
            lines.append(f"{word.text:<{width}}{cells}  {bar}".rstrip())
        return "\n".join([*lines, *self.notes()])

    def _rows(self) -> list[list[str]]:
        return [
            [word.text, *(format(getattr(word, name), how) for name, how in self.COLUMNS.items())]
            for word in self.words
        ]

    def _repr_html_(self) -> str:
        from html import escape

        from diffusers_rdaam.drawing.html import coloured_text, picture, table
        from diffusers_rdaam.drawing.overlay import outline

        first, how = next(iter(self.COLUMNS.items()))
        highest = max([abs(getattr(word, first)) for word in self.words] + [1e-30])
        spans = [
            (start, end, getattr(word, first) / highest, f"{first} {getattr(word, first):{how}}")
            for word in self.words
            for start, end in word.spans
        ]
        shown = self.image if self.region is None else outline(self.image, self.region.edges())
        parts = [
            picture(shown, "the image" if self.region is None else "the region"),
            f"<p>{escape(self.title)}</p>",
            coloured_text(self.prompt.text or "", _apart(sorted(spans))),
            table(["word", *self.COLUMNS], self._rows()),
            *(f"<p>{escape(note)}</p>" for note in self.notes()),
        ]
        return f"<div>{''.join(parts)}</div>"


def _apart(spans: list[tuple[int, int, float, str]]) -> list[tuple[int, int, float, str]]:
    """Those that do not begin inside of one before: phrases that were asked for may overlap."""
    kept: list[tuple[int, int, float, str]] = []
    for span in spans:
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept
