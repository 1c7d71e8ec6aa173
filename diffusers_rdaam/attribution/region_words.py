"""RegionWords and WordsInside: the words of a region, ranked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from PIL import Image

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.attribution.prompt import Prompt, Word, WordQuery
from diffusers_rdaam.attribution.ranked_words import (
    RankedSequence,
    WordOfPrompt,
    grouped,
    name_of_region,
)
from diffusers_rdaam.attribution.thresholds import attention_of
from diffusers_rdaam.geometry.region import Box, Region
from diffusers_rdaam.shapes import Size, TokenScores

Ranking = Literal["lift", "score", "share"]
DEFAULT_RANKING: Ranking = "lift"
# The contrast under which no word made a region, by what the softmax ran over: the text alone, or
# text and image together. Chosen on images of the embedded models with other prompts than those
# that the documentation's numbers are measured on.
NO_WORD_LEVELS = {"cross": 1.02, "joint": 0.95}
# Of the words' attention; with less of it in other columns, it is the same everywhere.
LEAST_REST = 1e-3
# The least lift of a whole bar.
WHOLE_BAR = 1.25


@dataclass(frozen=True)
class WordScore(WordOfPrompt):
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


@dataclass(frozen=True, eq=False, repr=False)
class RegionWords(RankedSequence[WordScore]):
    """The words of a region, best first: one sequence, see :class:`RankedSequence` for its keys.

    ``answer[0]`` is the best word with its score, share and lift; ``answer["cat"]`` is the score of
    a word, phrase or span, which is ``attribution.word("cat").mass(region)`` to the last digit.

    Attention has a large level that a word has everywhere and that differs from word to word; a
    region shows in what rises above it. That is why ``lift`` ranks by default.

    Where ``prompt_2`` is another text, the words of both are ranked together; ``encoders`` of an
    entry says whose it is. A column stands for a word of each text then, so that words of the two
    may have the same columns and the same numbers.

    Args:
        prompt: the prompt whose words are ranked.
        scores: mean probability over the region of each column; sums to 1.
        levels: the same over the whole image.
        region: the region that the words are of.
        ranking: ``"lift"``, ``"score"`` or ``"share"``.
        negative: the same of the negative prompt, where the run kept it.
        image_size: height and width of the image in pixels, where they are known.
        no_word_level: the contrast under which no word made the region, for the kind of model.
    """

    COLUMNS: ClassVar[dict[str, str]] = {"lift": ".2f", "score": ".4f", "share": ".1%"}

    prompt: Prompt = field(repr=False)
    scores: TokenScores = field(repr=False)
    levels: TokenScores = field(repr=False)
    region: Region
    ranking: Ranking = DEFAULT_RANKING
    image: Image.Image | None = field(default=None, repr=False)
    negative: RegionWords | None = field(default=None, repr=False)
    image_size: Size | None = field(default=None, repr=False)
    no_word_level: float = field(default=NO_WORD_LEVELS["cross"], repr=False)

    def __post_init__(self) -> None:
        check_choice(self.ranking, Ranking, "a ranking")

    @cached_property
    def words(self) -> tuple[WordScore, ...]:
        """Every word that has a column, in the order of ``ranking``; ties in prompt order."""
        groups = grouped(self.prompt)
        # As lists: reading a tensor for each word would take longer than all else here.
        scores, levels = self.scores.tolist(), self.levels.tolist()
        totals = {
            text: (_sum_words(scores, group), _sum_words(levels, group))
            for text, group in groups.items()
        }
        everything = math.fsum(score for score, _ in totals.values())
        ranked = [
            WordScore(
                text=text,
                score=score,
                share=score / everything if everything > 0 else 0.0,
                lift=score / level if level > 0 else 0.0,
                occurrences=tuple(groups[text]),
            )
            for text, (score, level) in totals.items()
        ]
        return tuple(sorted(ranked, key=lambda word: -getattr(word, self.ranking)))

    @property
    def special(self) -> dict[str, float]:
        """Scores of the special tokens and other columns without a word, by kind.

        Kinds are ``start``, ``end``, ``padding``, ``punctuation``, and ``unknown`` for embeddings
        without a text. The words' scores and these sum to 1; of two texts, the scores of all
        different columns of words and these.
        """
        return {
            kind: sum_columns(self.scores, columns)
            for kind, columns in self.prompt.columns_of_kind().items()
        }

    @cached_property
    def contrast(self) -> float | None:
        """The attention to all words together, mean inside the region over mean outside of it.

        ``s / ((l - a s) / (1 - a))`` with ``s`` the sum of the words' scores, ``l`` the same in the
        whole image and ``a`` the region's share of the area. Where no word made what is there, the
        special tokens have the attention, and the contrast is below 1. None where there is no
        outside, no word, no size of the image, or nothing but words, which then have 1 everywhere.
        """
        if self.image_size is None:
            return None
        columns = {column for word in self.prompt.words for column in word.columns}
        inside, level = (sum_columns(part, columns) for part in (self.scores, self.levels))
        area = _share_of_area(self.region, self.image_size)
        rest = float(self.levels.double().sum()) - level
        if not columns or area >= 1.0 or rest <= LEAST_REST * level:
            return None
        outside = (level - area * inside) / (1.0 - area)
        return inside / outside if outside > 0.0 else math.inf

    @property
    def no_word(self) -> bool:
        """Whether no word made the region: its contrast is under ``no_word_level``.

        There is always a best word; this says whether it means anything.
        """
        return self.contrast is not None and self.contrast < self.no_word_level

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

    def remarks(self) -> list[str]:
        """A line where no word made the region."""
        if not self.no_word:
            return []
        return [
            f"no word made this region: the attention to words is {self.contrast:.2f} times that "
            f"of the rest of the image (a region of a word: {self.no_word_level:.2f} or more)"
        ]

    def notes(self) -> list[str]:
        """The scores of the special tokens, in a line; nothing where there are none."""
        rest = ", ".join(f"{kind} {score:.4f}" for kind, score in self.special.items())
        return [f"special tokens: {rest}"] if rest else []

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON.

        ``"negative"`` only where the run kept it, ``"encoders"`` where there are several texts.
        """
        negative = {} if self.negative is None else {"negative": self.negative.to_dict()}
        contrast = self.contrast
        # JSON has no infinity.
        finite = contrast is not None and math.isfinite(contrast)
        return {
            "ranking": self.ranking,
            **super().to_dict(),
            "special": self.special,
            "no_word": {
                "found": self.no_word,
                "contrast": contrast if finite else None,
                "level": self.no_word_level,
            },
            **negative,
        }

    def _ranked_by(self) -> str:
        return self.ranking

    def _scale(self) -> tuple[float, float]:
        highest = super()._scale()[1]
        if self.ranking != "lift":
            return 0.0, highest
        # A lift of 1 is "as everywhere": a bar without length. Where every lift is low, no bar is
        # a whole one.
        return 1.0, max(highest, WHOLE_BAR)

    def __str__(self) -> str:
        """A small table, one bar a word, special tokens below; then the negative prompt's."""
        shown = super().__str__()
        if self.negative is None:
            return shown
        return f"{shown}\n\nthe negative prompt:\n{self.negative}"

    def _repr_html_(self) -> str:
        shown = super()._repr_html_()
        if self.negative is None:
            return shown
        # Without the picture, which is above.
        negative = replace(self.negative, image=None)._repr_html_()
        return f"<div>{shown}<p>The negative prompt:</p>{negative}</div>"


@dataclass(frozen=True)
class WordInside(WordOfPrompt):
    """One word of the prompt, all its occurrences together.

    Args:
        text: the word, as it is first written in the prompt.
        inside: the share of its heat map that lies in the region, 0 to 1.
        occurrences: the words of the prompt it stands for.
    """

    text: str
    inside: float
    occurrences: tuple[Word, ...] = field(repr=False)


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

    COLUMNS: ClassVar[dict[str, str]] = {"inside": ".1%"}

    region_words: RegionWords
    area: float

    @property
    def prompt(self) -> Prompt:  # type: ignore[override]  # read-only
        """The prompt whose words are ranked."""
        return self.region_words.prompt

    @property
    def region(self) -> Region:  # type: ignore[override]  # read-only
        """The region that the words are of."""
        return self.region_words.region

    @property
    def image(self) -> Image.Image | None:  # type: ignore[override]  # read-only
        """The image, where the attribution has one."""
        return self.region_words.image

    @property
    def title(self) -> str:
        """One line that names the region and the numbers."""
        return f"{name_of_region(self.region)}: how much of each word lies inside"

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

    def notes(self) -> list[str]:
        """The region's share of the area, which a word that is the same everywhere has."""
        return [f"The region is {self.area:.1%} of the image."]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON."""
        return {"area": self.area, **super().to_dict()}

    def _scale(self) -> tuple[float, float]:
        return 0.0, 1.0


def no_word_level(run: Mapping[str, Any]) -> float:
    """The contrast under which no word made a region, from the facts about a run."""
    return NO_WORD_LEVELS[attention_of(run)]


def _share_of_area(region: Region, size: Size) -> float:
    """The share of the image that a region covers."""
    if isinstance(region, Box):
        return float(region.inside(size).area / (size[0] * size[1]))
    return float(region.coverage(size).double().mean())


def sum_columns(scores: TokenScores, columns: Iterable[int]) -> float:
    """The sum of some columns' scores, as exact as their sum can be."""
    return math.fsum(scores[list(columns)].tolist())


def _sum_words(scores: list[float], words: list[Word]) -> float:
    columns = {column for word in words for column in word.columns}
    return math.fsum(scores[column] for column in columns)
