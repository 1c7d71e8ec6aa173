"""The latents that a denoiser is called with: listed ones, or those of a solver on its way.

A solver is a generator. It yields latents, is sent the model's velocity there, and returns the last
latents. Its levels are known before it runs, because the pipeline's loop asks for all timesteps
first. Everything is on the scale of flow matching (:mod:`diffusers_rdaam.images.noise_levels`),
where the velocity is ``u = eps - z`` and a step from one level to another adds ``h u``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

Steps = Generator[Tensor, Tensor, Tensor]
Solver = Literal["fireflow", "fixed_point", "euler"]
# Each brings the error of a step down by the size of the step; AIDI and ReNoise use as many.
ROUNDS = 3


@dataclass(frozen=True)
class Trajectory:
    """The calls of a denoiser.

    Args:
        levels: of the calls, in order.
        steps: begins the generator of their latents.
    """

    levels: tuple[float, ...]
    steps: Callable[[], Steps]


def listed(latents: Sequence[Tensor], levels: Sequence[float]) -> Trajectory:
    """Latents that are given one after another, whatever the model says."""

    def steps() -> Steps:
        for one in latents:
            _ = yield one
        return latents[-1]

    return Trajectory(tuple(levels), steps)


def euler(start: Tensor, knots: Sequence[float]) -> Trajectory:
    """Euler's rule from the first of some levels to the last: ``x + h u(x)``.

    Args:
        start: latents at the first level.
        knots: rising for an inversion, falling for a replay.
    """

    def steps() -> Steps:
        latents = start
        for here, there in pairwise(knots):
            velocity = yield latents
            latents = latents + (there - here) * velocity
        return latents

    return Trajectory(tuple(knots[:-1]), steps)


def fireflow(start: Tensor, knots: Sequence[float]) -> Trajectory:
    """FireFlow: the midpoint rule with one call a step (Deng et al., arXiv:2412.07517).

    The velocity that leads to a step's middle is that of the last step's middle; only the first
    step needs a call for it.

    Args:
        start: latents at the first level.
        knots: rising for an inversion, falling for a replay.
    """

    def steps() -> Steps:
        latents = start
        velocity = yield latents
        for here, there in pairwise(knots):
            velocity = yield latents + 0.5 * (there - here) * velocity
            latents = latents + (there - here) * velocity
        return latents

    middles = [0.5 * (here + there) for here, there in pairwise(knots)]
    return Trajectory((knots[0], *middles), steps)


def fixed_point(start: Tensor, knots: Sequence[float]) -> Trajectory:
    """The exact inverse of Euler's rule, found by iteration: ``x' = x + h u(x')``.

    ``x'`` is put in on the right again and again (Pan et al., AIDI, ICCV 2023; Garibi et al.,
    ReNoise, arXiv:2403.14602), begun with the velocity at ``x``.

    Args:
        start: latents at the first level.
        knots: rising.
    """

    def steps() -> Steps:
        latents = start
        velocity = yield latents
        for here, there in pairwise(knots):
            for _ in range(ROUNDS):
                velocity = yield latents + (there - here) * velocity
            latents = latents + (there - here) * velocity
        return latents

    rounds = [there for there in knots[1:] for _ in range(ROUNDS)]
    return Trajectory((knots[0], *rounds), steps)


# How each way leads from the image to noise, and back again.
SOLVERS: dict[Solver, tuple[Callable[..., Trajectory], Callable[..., Trajectory]]] = {
    "fireflow": (fireflow, fireflow),
    "fixed_point": (fixed_point, euler),
    "euler": (euler, euler),
}
