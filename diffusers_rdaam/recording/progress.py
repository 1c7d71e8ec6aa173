"""Progress: how far a run is, and which step a denoiser call belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from diffusers_rdaam.families import Branch, RowsOfBranches


@dataclass
class Progress:
    """Counts of a run's recorded denoiser calls.

    Args:
        calls: with rows of the prompt.
        negative_calls: with rows of the negative prompt.
        timesteps: of the calls with rows of the prompt, as the denoiser was given them.
        texts: of the same calls, the number of the prompt embedding that they were given.
        steps: how often the scheduler has stepped, where that is followed.
    """

    calls: int = 0
    negative_calls: int = 0
    timesteps: list[torch.Tensor | float | int | None] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    steps: int = 0
    # Whether a step's negative rows have a call of their own, before that of the prompt.
    _negative_first: bool | None = None

    def step(self, branch: Branch, rows: RowsOfBranches) -> int:
        """Which step this call belongs to. The negative prompt's are those of the prompt."""
        if branch is Branch.CONDITIONAL or Branch.CONDITIONAL in rows:
            return self.calls
        if self._negative_first is None:
            self._negative_first = self.calls == 0
        return self.calls if self._negative_first else self.calls - 1

    def advance(
        self, rows: RowsOfBranches, timestep: torch.Tensor | float | int | None, text: int = 0
    ) -> None:
        """Count a call."""
        if Branch.UNCONDITIONAL in rows:
            self.negative_calls += 1
        if Branch.CONDITIONAL in rows:
            self.calls += 1
            self.timesteps.append(timestep)
            self.texts.append(text)

    def timestep_numbers(self) -> list[float]:
        """The timesteps as numbers; not a number where none was given. Waits for the device."""
        return [_number(timestep) for timestep in self.timesteps]


def _number(timestep: torch.Tensor | float | int | None) -> float:
    if isinstance(timestep, torch.Tensor):
        return float(timestep.flatten()[0])
    return float("nan") if timestep is None else float(timestep)
