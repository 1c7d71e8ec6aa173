"""Steps: the denoiser's calls one by one, each an attribution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffusers_rdaam.attribution.selection import kept_by, select

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a run that kept them apart; a step is one call of the denoiser.

    ``steps[3]`` and ``steps[10:20]`` are attributions: of one step, and the mean of several.

    Args:
        attribution: whose steps these are.

    Raises:
        NoAttributionError: the run did not keep its steps apart.
    """

    attribution: Attribution

    def __post_init__(self) -> None:
        kept_by(self.attribution, "steps")

    @property
    def timesteps(self) -> tuple[float, ...]:
        """The scheduler's timestep of each step; empty where it is not known."""
        kept = self.attribution.kept
        assert kept is not None
        return kept.timesteps

    def __len__(self) -> int:
        kept = self.attribution.kept
        assert kept is not None
        return kept.steps

    def __getitem__(self, which: int | slice) -> Attribution:
        """The attribution of one step, or the mean of several.

        Raises:
            InputError: there is no such step, or nothing was recorded at it.
        """
        return select(self.attribution, steps=which)

    def __iter__(self) -> Iterator[Attribution]:
        return (self[step] for step in range(len(self)))

    def __repr__(self) -> str:
        return f"Steps({len(self)} of {self.attribution!r})"
