"""GradientWords: the words of a region by the gradients of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from diffusers_rdaam.attribution.prompt import EncoderQuery, Word, WordQuery
from diffusers_rdaam.attribution.ranked_words import WordOfPrompt, grouped, name_of_region
from diffusers_rdaam.explain.gradients.input_pixels import InputPixels
from diffusers_rdaam.explain.gradients.memory import GradientMemory
from diffusers_rdaam.explain.gradients.reductions import Method, combine
from diffusers_rdaam.explain.words import RankedWords
from diffusers_rdaam.shapes import TokenScores


@dataclass(frozen=True)
class GradientWord(WordOfPrompt):
    """One word of the prompt, all its occurrences together.

    Args:
        text: the word, as it is first written in the prompt.
        score: by the method, over all entries of its tokens' embeddings.
        share: ``score`` over the sum of all words' sizes (their absolute values).
        occurrences: the words of the prompt it stands for.
    """

    text: str
    score: float
    share: float
    occurrences: tuple[Word, ...] = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class GradientWords(RankedWords):
    """The words of a region, by how its pixels would change with their embeddings.

    What is differentiated is the sum of red, green and blue (0 to 1) over the region's pixels.

    Args:
        values: the score of each column, in the unit of the method.
        method: how gradients became scores.
        pooled: the score of the pooled embedding, where the model has one.
        pixels: of the input image, where the pipeline has one.
        delta: of integrated gradients, how far the sum of all scores is from the difference that
            it should be, as a part of that difference.
        difference: of integrated gradients, the region's sum less that of the baseline.
        memory: what the activations took.
    """

    COLUMNS: ClassVar[dict[str, str]] = {"share": ".1%", "score": ".4g"}

    values: TokenScores = field(repr=False)
    method: Method
    pooled: float | None = None
    pixels: InputPixels | None = field(default=None, repr=False)
    delta: float | None = None
    difference: float | None = None
    memory: GradientMemory | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """What the numbers are, in a line."""
        name = name_of_region(self.region)
        return f"{name}: words ranked by share of the gradients ({self.method})"

    @cached_property
    def words(self) -> tuple[GradientWord, ...]:
        """Every word that has a column, the largest score first; ties in prompt order."""
        groups = grouped(self.prompt)
        scores = {
            text: self._combined([column for word in words for column in word.columns])
            for text, words in groups.items()
        }
        total = math.fsum(abs(score) for score in scores.values())
        found = [
            GradientWord(text, score, score / total if total > 0 else 0.0, tuple(groups[text]))
            for text, score in scores.items()
        ]
        return tuple(sorted(found, key=lambda word: -word.score))

    @property
    def tokens(self) -> tuple[tuple[str, float], ...]:
        """The score of each column of the prompt's text, before they are merged into words."""
        return tuple(
            (token.text, float(self.values[token.column]))
            for token in self.prompt.tokens
            if token.kind == "text"
        )

    @property
    def special(self) -> dict[str, float]:
        """Scores of the columns that belong to no word, by kind, and of the pooled embedding.

        Kinds are ``start``, ``end``, ``padding``, ``punctuation``, ``unknown`` and ``pooled``; of
        several text encoders one behind the other each kind is that of all of them together.
        """
        kinds = self.prompt.columns_of_kind().items()
        found = {kind: self._combined(list(columns)) for kind, columns in kinds}
        return found if self.pooled is None else found | {"pooled": self.pooled}

    def score_of(self, query: WordQuery, *, encoder: EncoderQuery | None = None) -> float:
        """The score of a word, phrase, index or span, over the tokens of every text encoder.

        Args:
            query: what is asked.
            encoder: the name of a text encoder (``"t5"``), for its tokens alone where a model has
                several one behind the other: ``prompt.encoders``.

        Raises:
            WordError: the prompt does not have it, or no such text encoder.
        """
        return self._combined(list(self.prompt.find(query, encoder=encoder).columns))

    def notes(self) -> list[str]:
        """Lines below the table."""
        rest = ", ".join(f"{kind} {score:.4g}" for kind, score in self.special.items())
        notes = [f"special tokens: {rest}"]
        if self.delta is not None:
            notes.append(f"convergence delta: {self.delta:.2%} of {self.difference:.4g}")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, for JSON."""
        found: dict[str, Any] = {"method": self.method, **super().to_dict()}
        found |= {"tokens": [list(token) for token in self.tokens], "special": self.special}
        if self.delta is not None:
            found |= {"delta": self.delta, "difference": self.difference}
        return found

    def _combined(self, columns: list[int]) -> float:
        each = dict.fromkeys(columns)
        return combine(self.method, [float(self.values[column]) for column in each])
