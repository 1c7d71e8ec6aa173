"""Deletion: take words away, best first, and see how soon a region is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.explain.ablations.ablation import measure
from diffusers_rdaam.explain.ablations.regeneration import AblationRegeneration, Mode
from diffusers_rdaam.explain.explained import check_pipeline
from diffusers_rdaam.explain.prompt_columns import prompt_of_columns
from diffusers_rdaam.explain.regeneration import (
    ReplayedNoise,
    check_arguments,
)
from diffusers_rdaam.families.call_keywords import check_call_keywords
from diffusers_rdaam.geometry.region import RegionLike, as_region


@dataclass(frozen=True)
class DeletionCurve:
    """How much a region changes as words are taken away, one more each time.

    Args:
        words: in the order in which they were taken.
        changes: mean absolute change of the region after 0, 1, 2, … words.
    """

    words: tuple[str, ...]
    changes: tuple[float, ...]

    @property
    def area(self) -> float:
        """The mean height under the curve (trapezoids), over the change without any word.

        1 says that the first word made all of it; about a half that the order says nothing. 0
        where nothing changed at all.
        """
        last = self.changes[-1]
        if last <= 0.0:
            return 0.0
        inner = sum(self.changes[1:-1]) + (self.changes[0] + last) / 2.0
        return inner / (len(self.changes) - 1) / last


class Deletion:
    """Generations of one prompt from one noise, each without some words; none is made twice.

    Args:
        pipe: as for :func:`explain_ablation`.
        prompt: one text.
        mode: how words are taken away.
        arguments: of the pipeline's own call.

    Raises:
        InputError: an argument is wrong.
        UnsupportedPipelineError: another pipeline.
    """

    def __init__(self, pipe: Any, prompt: str, *, mode: Mode = "mask", **arguments: Any) -> None:
        check_pipeline(pipe)
        self._mode = mode
        self._arguments = check_arguments(pipe, prompt, arguments)
        check_call_keywords(pipe, arguments, Deletion)
        self._noise = ReplayedNoise(pipe, self._arguments)
        self._generation = AblationRegeneration(pipe)
        self._plain = self._generation.run(self._noise.again(self._arguments))
        self._changes: dict[frozenset[int], Tensor] = {}
        columns = self._generation.tokens
        self.prompt = prompt_of_columns(pipe, prompt, columns, self._arguments)

    def without(self, words: Sequence[str]) -> Tensor:
        """The mean absolute change of each pixel, ``(height, width)``, without some words.

        Raises:
            WordError: the prompt does not have one.
        """
        columns = frozenset(c for word in words for c in self.prompt.find(word).columns)
        if columns not in self._changes:
            regeneration = self._generation.without(tuple(sorted(columns)), self._mode)
            image = regeneration.run(self._noise.again(self._arguments))
            self._changes[columns] = (image - self._plain).abs().mean(dim=0).cpu().double()
        return self._changes[columns]

    def curve(self, region: RegionLike, order: Sequence[str]) -> DeletionCurve:
        """The change of a region while words are taken away in an order.

        Raises:
            InputError: there is no word in the order.
        """
        if isinstance(order, str) or not order:
            raise InputError(f"The order is a list of words, best first; got {order!r}.")
        asked = as_region(region)
        changes = [
            measure(self.without(order[:count]), asked)[0] for count in range(1, len(order) + 1)
        ]
        return DeletionCurve(tuple(order), (0.0, *changes))
