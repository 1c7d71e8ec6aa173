"""Calls of an unknown loop, of which the scheduler's steps show which ones make the image.

A class that overrides ``__call__`` may call its denoiser for a reference image, an inversion or a
second prediction. The call that makes the image is the one with the latents that the scheduler gets
in ``scheduler.step(prediction, timestep, latents)``. Until then a call is recorded into scratch
buffers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.families import DenoiserCall, RowsOfBranches

# The most calls that wait between two steps of a scheduler.
MOST_UNCONFIRMED = 4
# scale_model_input multiplies by one number, which changes no direction; noise has many dimensions,
# so that other latents are nearly orthogonal.
_SAME_DIRECTION = 1 - 1e-4


@dataclass(frozen=True, eq=False)
class Unconfirmed:
    """A recorded call that may turn out not to make the image.

    Args:
        number: the number of its scratch buffers.
        call: the denoiser call.
        rows: the recorded rows of each branch.
        text: the number of its text in the run.
    """

    number: int
    call: DenoiserCall
    rows: RowsOfBranches
    text: int


@dataclass
class Waiting:
    """The calls since the scheduler's last step.

    Args:
        calls: the calls, in order.
        has_stepped: whether the scheduler has stepped at all; some loops do not use it.
    """

    calls: list[Unconfirmed] = field(default_factory=list)
    has_stepped: bool = False

    def next_number(self) -> int | None:
        """The number of the next call's scratch buffers; None where too many calls wait."""
        return len(self.calls) if len(self.calls) < MOST_UNCONFIRMED else None

    def chosen_by(self, latents: Any) -> Unconfirmed | None:
        """The call whose latents the scheduler steps from; None if that is ambiguous.

        A single waiting call is taken, whatever was done to its latents.
        """
        same = [one for one in self.calls if _are_latents_of(one.call.latents, latents)]
        if same:
            # Calls with the same latents and text have the same maps, so any of them will do.
            return same[0] if len({one.text for one in same}) == 1 else None
        return self.calls[0] if len(self.calls) == 1 else None

    def chosen_by_timestep(self) -> Unconfirmed | None:
        """The only call, where the loop computes its steps without the scheduler."""
        return self.calls[0] if len(self.calls) == 1 else None

    def is_of_another_step(self, call: DenoiserCall) -> bool:
        """Whether a call has another timestep than those that wait."""
        return bool(self.calls) and _number(self.calls[-1].call.timestep) != _number(call.timestep)


def _are_latents_of(came: Tensor | None, latents: Any) -> bool:
    """Whether the latents of a call's rows are those of the step, each up to a factor."""
    if came is None or not isinstance(latents, Tensor) or came.ndim != latents.ndim:
        return False
    if came.shape[0] != latents.shape[0] or came.shape[2:] != latents.shape[2:]:
        return False
    # An inpainting denoiser has the channels of a mask after those of the latents.
    one = came[:, : latents.shape[1]].detach().flatten(1).float()
    other = latents.detach().to(came.device).flatten(1).float()
    if one.shape != other.shape:
        return False
    return bool((torch.cosine_similarity(one, other, dim=1) > _SAME_DIRECTION).all())


def _number(timestep: Any) -> float | None:
    if isinstance(timestep, Tensor):
        return float(timestep.flatten()[0])
    return None if timestep is None else float(timestep)
