"""Steps: the denoiser's calls one by one, each an attribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Generic

from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.ranked_words import grouped
from diffusers_rdaam.attribution.record import AnyRecord
from diffusers_rdaam.attribution.select import kept_by, select
from diffusers_rdaam.errors import InputError

# Rows of a notebook's table, and words of each.
SHOWN_STEPS, SHOWN_WORDS = 10, 6


@dataclass(frozen=True, eq=False)
class Steps(Generic[AnyRecord]):
    """The steps of a run that kept each of them; a step is one call of the denoiser.

    ``steps[3]`` and ``steps[10:20]`` are attributions: of one step, and the mean of several. Where
    another prompt was put in during the run, each step has the words of its own.

    Args:
        attribution: whose steps these are.

    Raises:
        NoAttributionError: the run did not keep its steps separately.
    """

    attribution: AnyRecord

    def __post_init__(self) -> None:
        kept_by(self.attribution, "steps")

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The scheduler's timestep of each step; empty where it is not known."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0].timesteps
        pairs = [pair for kept in parts for pair in zip(kept.numbers, kept.timesteps, strict=False)]
        return tuple(timestep for _, timestep in sorted(pairs))

    @property
    def _parts(self) -> list[KeptMaps]:
        """The kept maps of each prompt, where the prompt was exchanged during the run."""
        every = (self.attribution, *self.attribution.switched)
        return [part.kept for part in every if part.kept is not None]

    def __len__(self) -> int:
        return sum(kept.steps for kept in self._parts)

    def __getitem__(self, which: int | slice) -> AnyRecord:
        """The attribution of one step, or the mean of several.

        Raises:
            InputError: there is no such step, nothing was recorded at it, or they are steps of
                several prompts.
        """
        return select(self.attribution, steps=which)

    def __iter__(self) -> Iterator[AnyRecord]:
        return (self[step] for step in range(len(self)))

    def _repr_html_(self) -> str:
        """A table of the words' mean probabilities in the whole image at steps all over the run."""
        from diffusers_rdaam.drawing.html import table

        count = len(self)
        shown = sorted({i * (count - 1) // max(SHOWN_STEPS - 1, 1) for i in range(SHOWN_STEPS)})
        timesteps = self.timesteps
        rows = []
        for step in shown:
            at = "" if not timesteps else f"{timesteps[step]:g}"
            rows.append([str(step), at, self._words_at(step)])
        head = ["step", "timestep", "words by mean attention probability in the whole image"]
        return f"<div><p>{escape(repr(self))}</p>{table(head, rows)}</div>"

    def _words_at(self, step: int) -> str:
        try:
            part = self[step]
        except InputError:
            return "nothing was recorded"
        levels = part.levels
        scores = {
            words[0].text: float(levels[sorted({c for word in words for c in word.columns})].sum())
            for words in grouped(part.prompt).values()
        }
        best = sorted(scores.items(), key=lambda item: -item[1])[:SHOWN_WORDS]
        return ", ".join(f"{text} {score:.3g}" for text, score in best) or "no words"

    def __repr__(self) -> str:
        return f"Steps({len(self)} of {self.attribution!r})"
