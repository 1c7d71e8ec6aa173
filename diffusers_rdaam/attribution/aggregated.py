"""AggregatedAttribution: the words of an attribution, with maps of a named aggregation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from diffusers_rdaam.attribution import display
from diffusers_rdaam.attribution.aggregations.aggregation import Recipe
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.prompt import EncoderQuery, Match, Prompt, Word, WordQuery
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.errors import RepeatedWordWarning


@dataclass(frozen=True, eq=False)
class AggregatedAttribution:
    """The words of an attribution, each with its map by one aggregation.

    ``aggregated.word("cat")`` is a :class:`HeatMap`. Regions are asked of the attribution itself:
    its scores are of the base quantity, the mean.

    Args:
        attribution: of which the maps are.
        recipe: the aggregation with its options; None for the mean.
    """

    attribution: Record
    recipe: Recipe | None

    @property
    def prompt(self) -> Prompt:
        """The prompt and its tokens."""
        return self.attribution.prompt

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the prompt, in order."""
        return self.prompt.words

    def word(
        self,
        query: WordQuery,
        *,
        occurrence: int | None = None,
        encoder: EncoderQuery | None = None,
    ) -> HeatMap:
        """The heat map of a word or phrase; the arguments are those of ``Attribution.word``.

        Raises:
            WordError: the prompt does not have it.
            NoAttributionError: the run did not keep what the aggregation needs for it.
        """
        match = self.prompt.find(query, occurrence=occurrence, encoder=encoder)
        if display.is_sum(self.prompt, match):
            warnings.warn(display.repeat_text(match), RepeatedWordWarning, stacklevel=2)
        return self.match(match)

    def match(self, match: Match) -> HeatMap:
        """The heat map of what ``aggregated.prompt.find`` found."""
        if self.recipe is None:
            return HeatMap.read_from(self.attribution, match)
        return HeatMap.aggregated(self.attribution, match, self.recipe)

    def __getitem__(self, query: WordQuery) -> HeatMap:
        """``aggregated["cat"]`` is ``aggregated.word("cat")``."""
        match = self.prompt.find(query)
        if display.is_sum(self.prompt, match):
            warnings.warn(display.repeat_text(match), RepeatedWordWarning, stacklevel=2)
        return self.match(match)

    def __iter__(self) -> Iterator[HeatMap]:
        """The heat map of each word that has one, in the order of the prompt."""
        return (self[word.index] for word in self.words if word.columns)

    def __len__(self) -> int:
        """The number of words that have a heat map."""
        return sum(bool(word.columns) for word in self.words)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        name = "'mean'" if self.recipe is None else str(self.recipe)
        return f"AggregatedAttribution({name}, {len(self)} words, {self.prompt.shortened})"
