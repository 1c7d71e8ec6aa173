"""Calls of a loop that nothing describes: which of them make the image is seen afterwards.

A class with a ``__call__`` of its own may call its denoiser for a reference image, an inversion or
a second opinion. What makes the image is what the scheduler is given: the latents of
``scheduler.step(prediction, timestep, latents)`` are those of the call before it. Until then a call
is recorded into buffers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.families import DenoiserCall, RowsOfBranches

# More calls between two steps of a scheduler are not kept waiting.
MOST_UNCONFIRMED = 4
# scale_model_input multiplies by one number, which changes no direction; noise has many dimensions,
# so that other latents are nearly orthogonal.
_SAME_DIRECTION = 1 - 1e-4


@dataclass(frozen=True, eq=False)
class Unconfirmed:
    """A call that was recorded, and of which it is not known yet whether it makes the image.

    Args:
        number: of its buffers.
        call: as the hook saw it.
        rows: of each branch that was recorded.
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
        calls: in order.
        has_stepped: whether the scheduler has been seen to step; a loop may never ask it.
    """

    calls: list[Unconfirmed] = field(default_factory=list)
    has_stepped: bool = False

    def next_number(self) -> int | None:
        """The buffers of the next call; None where too many calls wait."""
        return len(self.calls) if len(self.calls) < MOST_UNCONFIRMED else None

    def chosen_by(self, latents: Any) -> Unconfirmed | None:
        """The call whose latents a step of the scheduler goes on from; None if that is not clear.

        One call that waits alone is the step's, whatever was done to its latents.
        """
        same = [one for one in self.calls if _goes_on_from(one.call.latents, latents)]
        if same:
            # The same latents with the same text attend alike: the first is as good as any.
            return same[0] if len({one.text for one in same}) == 1 else None
        return self.calls[0] if len(self.calls) == 1 else None

    def chosen_by_timestep(self) -> Unconfirmed | None:
        """The only call, where the loop computes its steps without the scheduler."""
        return self.calls[0] if len(self.calls) == 1 else None

    def is_of_another_step(self, call: DenoiserCall) -> bool:
        """Whether a call has another timestep than those that wait."""
        return bool(self.calls) and _number(self.calls[-1].call.timestep) != _number(call.timestep)


def _goes_on_from(came: Tensor | None, latents: Any) -> bool:
    """Whether the latents of a call's rows are those of the step, each up to a factor."""
    if came is None or not isinstance(latents, Tensor) or came.ndim != latents.ndim:
        return False
    if came.shape[0] != latents.shape[0] or came.shape[2:] != latents.shape[2:]:
        return False
    # An inpainting denoiser has channels of a mask behind those of the latents.
    one = came[:, : latents.shape[1]].detach().flatten(1).float()
    other = latents.detach().to(came.device).flatten(1).float()
    if one.shape != other.shape:
        return False
    return bool((torch.cosine_similarity(one, other, dim=1) > _SAME_DIRECTION).all())


def _number(timestep: Any) -> float | None:
    if isinstance(timestep, Tensor):
        return float(timestep.flatten()[0])
    return None if timestep is None else float(timestep)
