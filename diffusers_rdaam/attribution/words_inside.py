"""WordsInside: how much of each word lies in a region."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from diffusers_rdaam.attribution.prompt import Word, WordQuery, encoders_of, labelled
from diffusers_rdaam.attribution.ranked_words import RankedSequence
from diffusers_rdaam.attribution.region_words import RegionWords, sum_columns

_BAR = 24


@dataclass(frozen=True)
class WordInside:
    """One word of the prompt, all its occurrences together.

    Args:
        text: the word, as it is first written in the prompt.
        inside: the share of its heat map that lies in the region, 0 to 1.
        occurrences: the words of the prompt it stands for.
    """

    text: str
    inside: float
    occurrences: tuple[Word, ...] = field(repr=False)

    @property
    def encoders(self) -> tuple[int, ...]:
        """Whose text the word is of where the prompt has two: ``(1,)``, ``(2,)`` or ``(1, 2)``."""
        return encoders_of(self.occurrences)

    @property
    def label(self) -> str:
        """The word and, where the prompt has two texts, which it is of."""
        return labelled(self.text, self.encoders)


@dataclass(frozen=True, eq=False, repr=False)
class WordsInside(RankedSequence[WordInside]):
    """The words of a prompt by how much of each lies in a region, highest first.

    One sequence, see :class:`RankedSequence` for its keys: ``answer[0]`` is the first word,
    ``answer["cat"]`` the share of a word, phrase or span.

    A word that is the same everywhere has the share that the region has of the area. The share is
    that of the area times the word's lift, so the order is that of lift.

    Args:
        region_words: the scores in the region and in the whole image.
        area: the region's share of the image, 0 to 1.
    """

    region_words: RegionWords
    area: float

    @cached_property
    def words(self) -> tuple[WordInside, ...]:
        """Every word that has a column, highest first; ties in prompt order."""
        return tuple(
            WordInside(word.text, self.area * word.lift, word.occurrences)
            for word in self.region_words.ranked_by("lift")
        )

    def score_of(self, query: WordQuery) -> float:
        """The share of a word, phrase, index or span: ``attribution.word(query).inside(region)``.

        Raises:
            WordError: the prompt does not have it.
        """
        columns = self.region_words.prompt.find(query).columns
        level = sum_columns(self.region_words.levels, columns)
        score = sum_columns(self.region_words.scores, columns)
        return self.area * (score / level) if level > 0.0 else 0.0

    def __repr__(self) -> str:
        return self._repr_of(f"{self.area:.1%} of the image, ", "inside")

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and texts, for JSON."""
        words = [
            {"word": word.text, "inside": word.inside}
            | ({"encoders": list(word.encoders)} if word.encoders else {})
            for word in self.words
        ]
        return {"area": self.area, "words": words}

    def __str__(self) -> str:
        """A small table, one bar a word, the region's share of the area below."""
        if not self.words:
            return "(no words)"
        width = max(len(word.label) for word in self.words)
        lines = [f"{'word':<{width}}  {'inside':>6}"]
        for word in self.words:
            bar = "█" * round(_BAR * min(max(word.inside, 0.0), 1.0))
            lines.append(f"{word.label:<{width}}  {word.inside:>6.1%}  {bar}")
        return "\n".join([*lines, f"the region is {self.area:.1%} of the image"])

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import table

        rows = [[word.label, f"{word.inside:.1%}"] for word in self.words]
        return (
            f"{table(['word', 'inside'], rows)}<p>The region is {self.area:.1%} of the image.</p>"
        )
