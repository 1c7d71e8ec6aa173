"""RegionWords: the words of a region, ranked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from PIL import Image

from diffusers_rdaam.attribution.display import coloured_prompt
from diffusers_rdaam.attribution.prompt import Prompt, Word, WordQuery, encoders_of, labelled
from diffusers_rdaam.attribution.ranked_words import RankedSequence
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Box, Region
from diffusers_rdaam.shapes import TokenScores
from diffusers_rdaam.suggestions import unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ranking = Literal["lift", "score", "share"]
DEFAULT_RANKING: Ranking = "lift"
_BAR = 24


@dataclass(frozen=True)
class WordScore:
    """One word of the prompt, all its occurrences together, in one region.

    Args:
        text: the word, as it is first written in the prompt.
        score: mean attention probability over the region, summed over the word's tokens.
        share: ``score`` over the sum of all words' scores; the shares sum to 1. A column in which
            each of two texts has a word counts for both words there.
        lift: ``score`` over the word's score in the whole image; 1 is "as everywhere".
        occurrences: the words of the prompt it stands for.
    """

    text: str
    score: float
    share: float
    lift: float
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
class RegionWords(RankedSequence[WordScore]):
    """The words of a region, best first: one sequence, see :class:`RankedSequence` for its keys.

    ``answer[0]`` is the best word with its score, share and lift; ``answer["cat"]`` is the score of
    a word, phrase or span, which is ``attribution.word("cat").mass(region)`` to the last digit.

    Attention has a large level that a word has everywhere and that differs from word to word; a
    region is told by what rises above it. That is why ``lift`` ranks, unless asked otherwise.

    Where ``prompt_2`` is another text, the words of both are ranked together; ``encoders`` of an
    entry says whose it is. A column stands for a word of each text then, so that words of the two
    may have the same columns and the same numbers.

    Args:
        prompt: the prompt whose words are ranked.
        scores: mean probability over the region of each column; sums to 1.
        levels: the same over the whole image.
        region: what was asked.
        ranking: ``"lift"``, ``"score"`` or ``"share"``.
        negative: the same of the negative prompt, where the run kept it.
    """

    prompt: Prompt = field(repr=False)
    scores: TokenScores = field(repr=False)
    levels: TokenScores = field(repr=False)
    region: Region
    ranking: Ranking = DEFAULT_RANKING
    image: Image.Image | None = field(default=None, repr=False)
    negative: RegionWords | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.ranking not in get_args(Ranking):
            raise InputError(unknown_name(self.ranking, get_args(Ranking), "a ranking"))

    @cached_property
    def words(self) -> tuple[WordScore, ...]:
        """Every word that has a column, in the order of ``ranking``; ties in prompt order."""
        groups: dict[str, list[Word]] = {}
        for word in self.prompt.words:
            if word.columns:
                groups.setdefault(word.text.casefold(), []).append(word)
        totals = {
            key: (_sum_words(self.scores, group), _sum_words(self.levels, group))
            for key, group in groups.items()
        }
        everything = math.fsum(score for score, _ in totals.values())
        ranked = [
            WordScore(
                text=groups[key][0].text,
                score=score,
                share=score / everything if everything > 0 else 0.0,
                lift=score / level if level > 0 else 0.0,
                occurrences=tuple(groups[key]),
            )
            for key, (score, level) in totals.items()
        ]
        return tuple(sorted(ranked, key=lambda word: -getattr(word, self.ranking)))

    @property
    def special(self) -> dict[str, float]:
        """Scores of the columns that belong to no word, by kind.

        Kinds are ``start``, ``end``, ``padding``, ``punctuation``, and ``unknown`` for embeddings
        without a text. The words' scores and these sum to 1; of two texts, the scores of all
        different columns of words and these.
        """
        return {
            kind: sum_columns(self.scores, columns)
            for kind, columns in self.prompt.columns_of_kind().items()
        }

    def ranked_by(self, ranking: Ranking) -> RegionWords:
        """The same words in another order: ``"lift"``, ``"score"`` or ``"share"``."""
        negative = None if self.negative is None else self.negative.ranked_by(ranking)
        return replace(self, ranking=ranking, negative=negative)

    def score_of(self, query: WordQuery) -> float:
        """The score of a word, phrase, index or span: ``answer["cat"]``.

        It equals ``attribution.word(query).mass(region)``.

        Raises:
            WordError: the prompt does not have it.
        """
        return sum_columns(self.scores, self.prompt.find(query).columns)

    def __repr__(self) -> str:
        where = type(self.region).__name__.lower()
        edges = f" {self.region.as_tuple()}" if isinstance(self.region, Box) else ""
        return self._repr_of(f"{where}{edges}, ", self.ranking)

    def plot(self) -> Figure:
        """A matplotlib figure: the region in the image, and the words as bars (extra ``plot``)."""
        from diffusers_rdaam.drawing.figure import bars_figure

        bars = [(word.label, getattr(word, self.ranking)) for word in self.words]
        level = 1.0 if self.ranking == "lift" else None
        return bars_figure(bars, self.ranking, self.image, self.region.edges(), level=level)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and texts, for JSON.

        ``"negative"`` only where the run kept it, ``"encoders"`` only where there are two texts.
        """
        negative = {} if self.negative is None else {"negative": self.negative.to_dict()}
        return {
            "ranking": self.ranking,
            "words": [
                {"word": w.text, "score": w.score, "share": w.share, "lift": w.lift}
                | ({"encoders": list(w.encoders)} if w.encoders else {})
                for w in self.words
            ],
            "special": self.special,
            **negative,
        }

    def __str__(self) -> str:
        """A small table, one bar a word, special columns below; then the negative prompt's."""
        if self.negative is not None:
            return f"{replace(self, negative=None)}\n\nthe negative prompt:\n{self.negative}"
        if not self.words:
            return "(no words)"
        width = max(len(word.label) for word in self.words)
        highest = max(getattr(word, self.ranking) for word in self.words) or 1.0
        lines = [f"{'word':<{width}}  {'lift':>6}  {'score':>7}  {'share':>6}"]
        for word in self.words:
            bar = "█" * round(_BAR * max(getattr(word, self.ranking), 0.0) / highest)
            lines.append(
                f"{word.label:<{width}}  {word.lift:>6.2f}  {word.score:>7.4f}  "
                f"{word.share:>6.1%}  {bar}"
            )
        rest = ", ".join(f"{kind} {score:.4f}" for kind, score in self.special.items())
        return "\n".join([*lines, f"apart from the words: {rest}"])

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import picture, table
        from diffusers_rdaam.drawing.overlay import outline

        # Colour is what rises above the level of no interest: a lift of 1 says "as everywhere".
        level = 1.0 if self.ranking == "lift" else 0.0
        highest = max([getattr(entry, self.ranking) - level for entry in self.words] + [1e-12])
        spans = [
            (word, (value - level) / highest, f"{self.ranking} {value:.3g}")
            for entry in self.words
            for value in [getattr(entry, self.ranking)]
            for word in entry.occurrences
        ]
        parts = []
        if self.image is not None:
            parts.append(picture(outline(self.image, self.region.edges()), "the region"))
        parts.append(coloured_prompt(self.prompt, spans))
        rows = [
            [word.label, f"{word.lift:.2f}", f"{word.score:.4f}", f"{word.share:.1%}"]
            for word in self.words
        ]
        parts.append(table(["word", "lift", "score", "share"], rows))
        if self.negative is not None:
            # Without the picture, which is above.
            shown = replace(self.negative, image=None)._repr_html_()
            parts.append(f"<p>The negative prompt:</p>{shown}")
        return f"<div>{''.join(parts)}</div>"


def sum_columns(scores: TokenScores, columns: Iterable[int]) -> float:
    """The sum of some columns' scores, as exact as their sum can be."""
    return math.fsum(scores[list(columns)].tolist())


def _sum_words(scores: TokenScores, words: list[Word]) -> float:
    return sum_columns(scores, {column for word in words for column in word.columns})
