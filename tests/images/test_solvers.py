"""Solvers of a flow whose exact path is known."""

from __future__ import annotations

import math

import pytest
import torch

from diffusers_rdaam.images.solvers import SOLVERS, Trajectory, euler, fireflow, listed

START = torch.tensor([1.0, -2.0], dtype=torch.float64)


def follow(trajectory: Trajectory) -> torch.Tensor:
    """The end of a trajectory in the field ``u(x, s) = s x``, and that its levels are its calls."""
    steps = trajectory.steps()
    latents = next(steps)
    for level in trajectory.levels:
        try:
            latents = steps.send(level * latents)
        except StopIteration as stop:
            return stop.value
    raise AssertionError("the solver asks for more calls than it has levels")


def knots(steps: int, until: float = 0.8) -> list[float]:
    return [until * step / steps for step in range(steps + 1)]


def exact(until: float = 0.8) -> torch.Tensor:
    return START * math.exp(until**2 / 2)


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (fireflow, 2)])
def test_the_error_falls_with_the_order(solver, order):
    errors = [float((follow(solver(START, knots(n))) - exact()).abs().max()) for n in (20, 40)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize(("name", "calls"), [("euler", 10), ("fireflow", 11), ("fixed_point", 31)])
def test_the_way_back_leads_to_the_start(name, calls):
    out, back = SOLVERS[name]
    outward = out(START, knots(10))
    assert len(outward.levels) == calls
    again = follow(back(follow(outward), knots(10)[::-1]))
    error = float((again - START).norm() / START.norm())
    assert error < {"euler": 0.1, "fireflow": 2e-3, "fixed_point": 1e-4}[name]


def test_listed_latents_come_whatever_is_answered():
    latents = [torch.ones(1), torch.zeros(1)]
    trajectory = listed(latents, [0.3, 0.5])
    steps = trajectory.steps()
    assert trajectory.levels == (0.3, 0.5)
    assert next(steps) is latents[0] and steps.send(torch.full((1,), 9.0)) is latents[1]
    with pytest.raises(StopIteration) as stop:
        steps.send(torch.ones(1))
    assert stop.value.value is latents[1]
