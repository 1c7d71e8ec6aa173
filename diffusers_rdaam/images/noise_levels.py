"""Noise levels on one scale for every scheduler: how much of a latent is noise, from 0 to 1.

On the scale of flow matching a noised latent is ``x = (1 - sigma) z + sigma eps``. A diffusion
model's ``a z + s eps`` with ``a² + s² = 1`` is the same direction at ``sigma = s / (a + s)``, times
``a + s``: so one level means one signal-to-noise ratio for every model, and a solver that is
written on this scale serves all of them. Nothing is asked of ``scheduler.add_noise``, which several
schedulers answer for the nearest step of their schedule and not for the timestep that is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError, UnsupportedPipelineError

# What a diffusion model's output may be, by the name in its scheduler's configuration.
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


class NoiseLevels(Protocol):
    """How a model sees a level: its timestep, the scale of its latents, its output's meaning."""

    def nearest(self, level: float) -> float:
        """The level nearest to this one that the model was trained at."""

    def timestep(self, level: float) -> float:
        """What the scheduler calls the level."""

    def scale(self, level: float) -> float:
        """The model's latents over those of the flow scale."""

    def velocity(self, output: Tensor, latents: Tensor, level: float) -> Tensor:
        """``eps - z`` on the flow scale, from the model's output.

        Args:
            output: what the pipeline gives its scheduler.
            latents: on the flow scale.
            level: of the latents.
        """


@dataclass(frozen=True)
class FlowLevels:
    """The levels of a flow-matching model, whose output is the velocity itself.

    Args:
        steps: the timestep of pure noise.
        inverted: whether the schedule runs from 0 (noise) to ``steps`` (image), as OmniGen's.
    """

    steps: float
    inverted: bool = False

    def nearest(self, level: float) -> float:
        """The level itself: flow models are trained at all."""
        return level

    def timestep(self, level: float) -> float:
        """The level times the number of training steps."""
        return (1.0 - level if self.inverted else level) * self.steps

    def scale(self, level: float) -> float:
        """One."""
        return 1.0

    def velocity(self, output: Tensor, latents: Tensor, level: float) -> Tensor:
        """The output, whose sign turns with the schedule's direction."""
        return -output if self.inverted else output


@dataclass(frozen=True, eq=False)
class DiffusionLevels:
    """The levels of a diffusion model, from its cumulative products of ``1 - beta``.

    Args:
        alphas: ``(timesteps,)``: ``a²`` of each timestep, falling.
        prediction: what the model's output is: ``"epsilon"``, ``"v_prediction"`` or ``"sample"``.
    """

    alphas: Tensor
    prediction: str
    _levels: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        alphas = self.alphas.detach().double().cpu()
        signal, noise = alphas.sqrt(), (1.0 - alphas).clamp(min=0.0).sqrt()
        object.__setattr__(self, "_levels", noise / (signal + noise))

    def nearest(self, level: float) -> float:
        """The level of the nearest timestep."""
        return float(self._levels[int((self._levels - level).abs().argmin())])

    def timestep(self, level: float) -> float:
        """The timestep of the level, between two of the model's where it lies between them."""
        levels = self._levels
        above = int(torch.searchsorted(levels, level))
        if above == 0:
            return 0.0
        if above == len(levels):
            return float(len(levels) - 1)
        low, high = float(levels[above - 1]), float(levels[above])
        return above - 1 + (level - low) / (high - low)

    def scale(self, level: float) -> float:
        """``a + s``, which makes the length of ``(a, s)`` one."""
        return 1.0 / ((1.0 - level) ** 2 + level**2) ** 0.5

    def velocity(self, output: Tensor, latents: Tensor, level: float) -> Tensor:
        """``eps - z``, from whatever the model predicts."""
        if self.prediction == "v_prediction":
            scale = self.scale(level)
            signal, noise = (1.0 - level) * scale, level * scale
            return (noise - signal) * scale * latents + scale * output
        if self.prediction == "epsilon":
            return (output - latents) / (1.0 - level)
        if level == 0.0:
            raise InputError(
                "A model that predicts the image says nothing of the noise in an image without "
                "noise, so it cannot be inverted. Use method='forward'."
            )
        return (latents - output) / level


def levels_of(scheduler: Any) -> NoiseLevels:
    """The levels of the model behind a scheduler.

    Raises:
        UnsupportedPipelineError: the scheduler's levels are not known.
    """
    config = scheduler.config
    prediction = config.get("prediction_type", "epsilon")
    steps = float(config.get("num_train_timesteps", 1000))
    name = type(scheduler).__name__
    if (
        any(base.__name__.startswith("FlowMatch") for base in type(scheduler).__mro__)
        or config.get("use_flow_sigmas")
        or prediction == "flow_prediction"
    ):
        return FlowLevels(steps, bool(config.get("invert_sigmas", False)))
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or prediction not in _PREDICTIONS:
        raise UnsupportedPipelineError(
            f"The noise levels of {name} are not known (it has prediction_type={prediction!r} and "
            f"{'no' if alphas is None else 'an'} alphas_cumprod), so an image cannot be noised for "
            "it. Put another scheduler of the same model in its place, such as DDIMScheduler or "
            "FlowMatchEulerDiscreteScheduler."
        )
    return DiffusionLevels(torch.as_tensor(alphas, device="cpu"), prediction)
