"""Progress: how far a run is, and which step a denoiser call belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from diffusers_rdaam.families import Branch, RowsOfBranches


@dataclass
class Progress:
    """Counts of a run's recorded denoiser calls.

    Args:
        calls: the number of calls with rows of the prompt.
        negative_calls: the number of calls with rows of the negative prompt.
        timesteps: the timesteps of the calls with rows of the prompt, as the denoiser got them.
        texts: the number of the prompt embedding of each of these calls.
        steps: how often the scheduler has stepped, where that is followed.
    """

    calls: int = 0
    negative_calls: int = 0
    timesteps: list[torch.Tensor | float | int | None] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    steps: int = 0
    # Whether the negative rows of a step have a separate call, before the prompt's.
    _negative_first: bool | None = None

    def step(self, branch: Branch, rows: RowsOfBranches) -> int:
        """The number of the step that a call belongs to; both prompts share their steps."""
        if branch is Branch.CONDITIONAL or Branch.CONDITIONAL in rows:
            return self.calls
        if self._negative_first is None:
            self._negative_first = self.calls == 0
        return self.calls if self._negative_first else self.calls - 1

    def advance(
        self, rows: RowsOfBranches, timestep: torch.Tensor | float | int | None, text: int = 0
    ) -> None:
        """Count a call with the rows of these branches."""
        if Branch.UNCONDITIONAL in rows:
            self.negative_calls += 1
        if Branch.CONDITIONAL in rows:
            self.calls += 1
            self.timesteps.append(timestep)
            self.texts.append(text)

    def timestep_numbers(self) -> list[float]:
        """The timesteps as numbers, NaN where a call had none. Waits for the device."""
        return [_number(timestep) for timestep in self.timesteps]


def _number(timestep: torch.Tensor | float | int | None) -> float:
    if isinstance(timestep, torch.Tensor):
        return float(timestep.flatten()[0])
    return float("nan") if timestep is None else float(timestep)
