"""How well a model predicts the noise of images under texts: the judge of edited images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.images.attribute import ImageRequest, ImageRun, Run
from diffusers_rdaam.images.driven_scheduler import Drive
from diffusers_rdaam.images.solvers import Steps, Trajectory


@dataclass(frozen=True)
class ErrorRequest:
    """The levels and draws of noise of :func:`prediction_errors`.

    Args:
        noise: levels of the flow scale, each over 0 and under 1.
        draws: of noise at each level.
        seed: of the noise: the same for every image and text.
    """

    noise: Sequence[float] = (0.26, 0.37, 0.46)
    draws: int = 1
    seed: int = 0


def prediction_errors(
    pipe: Any,
    images: Sequence[Any],
    prompts: Sequence[str],
    request: ErrorRequest,
    *,
    plain: Run,
    **call: Any,
) -> list[float]:
    """``mean ||u - u(x, prompt)||^2`` of each image, with the velocity ``u = eps - z``.

    All images are asked in one batch, with the same noise.

    Args:
        pipe: a pipeline that :func:`attribute_image` takes; it stays as it is.
        images: of one size, as there.
        prompts: one for each.
        request: levels, draws and seed.
        plain: runs a pipeline unrecorded.
        call: further arguments of the pipeline's call.

    Raises:
        InputError: as :func:`attribute_image`.
        UnsupportedPipelineError: likewise.
    """
    asked = ImageRequest(noise=tuple(request.noise), draws=max(request.draws, 1), call=call)
    run = _ErrorRun(pipe, asked, record=_never, plain=plain)
    return run.errors(list(images), list(prompts), request.seed)


def _never(pipe: Any, arguments: dict[str, Any]) -> Any:
    raise AssertionError("nothing is recorded here")


class _ErrorRun(ImageRun):
    """A run whose denoiser is asked, and not recorded."""

    def errors(self, given: list[Any], prompts: list[str], seed: int) -> list[float]:
        """The mean squared error of each image over levels, draws and latents."""
        images = self._prepared(given, prompts)
        calls = [
            self.levels.nearest(level)
            for level in self.request.noise
            for _ in range(self.request.draws)
        ]
        generator = torch.Generator("cpu").manual_seed(seed)
        clean = images.latents
        noises = [
            torch.randn(clean.shape[1:], generator=generator, dtype=torch.float32, device="cpu").to(
                clean
            )
            for _ in calls
        ]
        total = torch.zeros(len(clean), dtype=torch.float64, device="cpu")

        def steps() -> Steps:
            latents: Tensor = clean
            for level, noise in zip(calls, noises, strict=True):
                latents = (1.0 - level) * clean + level * noise
                velocity = yield latents
                error = (noise - clean - velocity).double().square().flatten(1).mean(dim=1)
                total.add_(error.cpu() / len(calls))
            return latents

        drive = Drive(Trajectory(tuple(calls), steps), self.levels)
        clone = self._clone(drive, images.pictures[0].size)
        self._plain(clone, self._arguments(images, drive, output_type="latent"))
        self._check_end(drive)
        found: list[float] = total.tolist()
        return found
