"""A scheduler that hands a pipeline's loop the timesteps and latents of a trajectory.

The loop is the pipeline's own, so that encoding of prompts, packing, size embeddings, guidance and
recording are those of any other run; only what a scheduler decides is decided here.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.images.noise_levels import DiffusionLevels, NoiseLevels
from diffusers_rdaam.images.solvers import Trajectory


class Drive:
    """A trajectory on its way through a loop.

    Args:
        trajectory: the calls, on the scale of flow matching.
        levels: how the model sees that scale.
        scales: what the latents are multiplied with for the model, call by call; by the levels if
            not given.
        handed_back: what the loop gets after its last step in place of the trajectory's end.
    """

    def __init__(
        self,
        trajectory: Trajectory,
        levels: NoiseLevels,
        *,
        scales: list[float] | None = None,
        handed_back: Tensor | None = None,
    ) -> None:
        self.points = trajectory.levels
        timesteps = [levels.timestep(level) for level in self.points]
        # As the schedulers of either kind of model have them.
        whole = isinstance(levels, DiffusionLevels) and all(map(float.is_integer, timesteps))
        self.timesteps = torch.tensor(
            timesteps, dtype=torch.int64 if whole else torch.float32, device="cpu"
        )
        self.calls = 0
        self.end: Tensor | None = None
        self.current: Tensor | None = None
        self._levels = levels
        self._scales = scales or [levels.scale(level) for level in self.points]
        self._handed_back = handed_back
        self._steps = trajectory.steps()
        self._latents: Tensor | None = None

    def first(self, like: Tensor) -> Tensor:
        """The latents of the first call, in the type and on the device of the pipeline's own."""
        if self._latents is None:
            self._latents = next(self._steps)
        return self._for_model(like)

    def next(self, output: Tensor) -> Tensor:
        """The latents of the next call, after the model's output of the last one."""
        if self.current is None or self._latents is None:
            raise InputError(
                "The pipeline began its loop without asking for latents, so it cannot be given "
                "those of an image."
            )
        level = self.points[self.calls]
        latents = self._latents
        velocity = self._levels.velocity(output.detach().to(latents), latents, level)
        self.calls += 1
        try:
            self._latents = self._steps.send(velocity)
        except StopIteration as stop:
            self.end = stop.value
            back = self.end if self._handed_back is None else self._handed_back
            return back.to(self.current)
        return self._for_model(self.current)

    def _for_model(self, like: Tensor) -> Tensor:
        assert self._latents is not None
        self.current = (self._latents * self._scales[self.calls]).to(like)
        return self.current


class _Driven:
    """What takes the place of a scheduler's own methods."""

    _rdaam_drive: Drive
    order = 1

    @property
    def init_noise_sigma(self) -> float:
        """The latents are scaled already."""
        return 1.0

    @property
    def timesteps(self) -> Tensor:
        """Those of the trajectory."""
        return self._rdaam_drive.timesteps

    @property
    def sigmas(self) -> Tensor:
        """The levels, and the end, where there is no noise."""
        return torch.tensor([*self._rdaam_drive.points, 0.0], device="cpu")

    @property
    def num_inference_steps(self) -> int:
        """The number of calls."""
        return len(self._rdaam_drive.points)

    # diffusers asks the signature which of these a scheduler takes.
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        **more: Any,
    ) -> None:
        """Keep the trajectory's timesteps, on the loop's device."""
        drive = self._rdaam_drive
        drive.timesteps = drive.timesteps.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at the beginning."""

    def scale_model_input(self, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The latents as they are."""
        return sample

    def add_noise(self, original: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What inpainting puts outside of its mask: the latents of the trajectory there too."""
        current = self._rdaam_drive.current
        return original if current is None or current.shape != original.shape else current

    scale_noise = add_noise

    def step(self, model_output: Tensor, *args: Any, return_dict: bool = True, **more: Any) -> Any:
        """The latents of the next call."""
        latents = self._rdaam_drive.next(model_output)
        if return_dict:
            return SimpleNamespace(prev_sample=latents, pred_original_sample=latents)
        # Distilled models' loops unpack a second value: the image as it is seen at this step.
        return latents, latents

    def __deepcopy__(self, memo: Any) -> Any:
        # A loop that copies its scheduler goes on with the same trajectory.
        return self


def driven(scheduler: Any, drive: Drive) -> Any:
    """A scheduler of the same class and configuration that follows a trajectory."""
    cls: Any = _driven_class(type(scheduler))  # type: ignore[arg-type]  # classes hash
    found = cls.__new__(cls)
    found.__dict__.update(scheduler.__dict__, _rdaam_drive=drive)
    return found


@lru_cache(maxsize=32)
def _driven_class(cls: type) -> type:
    # Loops ask for a scheduler's class, and the facts of a run have its name.
    body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_Driven, cls), body)
