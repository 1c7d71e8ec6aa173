"""What is counted are denoiser calls, not steps."""

from __future__ import annotations

import diffusers
import pytest
from cell import denoiser_calls, fresh
from conditions import CONDITIONS
from diffusers.schedulers import KarrasDiffusionSchedulers
from toys import CASES, SITES, call

CASE = CASES["StableDiffusion"]
# diffusers makes arrays of tensors in a way that numpy is about to end.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [
        ("EulerDiscreteScheduler", 3, 3),
        ("HeunDiscreteScheduler", 3, 5),
        ("KDPM2DiscreteScheduler", 3, 5),
        ("KDPM2AncestralDiscreteScheduler", 3, 5),
        ("PNDMScheduler", 8, 17),
    ],
)
def test_denoiser_calls(name: str, steps: int, calls: int):
    pipe = fresh(CASE, CASE.ours)
    cls = getattr(diffusers, name)
    pipe.scheduler = cls.from_config(pipe.scheduler.config, skip_prk_steps=False)
    with denoiser_calls(pipe) as rows:
        attribution = call(CASE, pipe, num_inference_steps=steps).attribution
    assert len(rows) == attribution.run["denoiser_calls"] == calls
    assert attribution.run["num_inference_steps"] == steps
    assert attribution.run["scheduler"] == name
    assert [grid.additions for grid in attribution.grids] == [calls * SITES]


def test_no_scheduler_is_left_out():
    tried = {c.variant for c in CONDITIONS if c.variant}
    assert tried == {member.name for member in KarrasDiffusionSchedulers}
