"""One pipeline, run after run with something changed: each as if it were the only one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cell import arrays, fresh, same_maps
from conditions import COLUMNS
from toys import CASES, call

VARIATIONS: list[dict[str, Any]] = [
    {},
    {"height": 48, "width": 80},
    {"guidance_scale": 1.0},
    {"num_images_per_prompt": 2},
    {"height": 80, "width": 48, "guidance_scale": 1.0},
    {"output_type": "latent"},
    {"num_inference_steps": 6},
    {"prompt": "two dogs"},
    {},
]
# One pipeline is quick: the others differ in their parts, and what is kept between runs does not.
MOST_SLOW = [
    pytest.param(name, marks=[pytest.mark.slow] * (name != next(iter(COLUMNS)))) for name in COLUMNS
]


def run(case: Any, pipe: Any, prompt: str = "a red cat", **settings: Any) -> Any:
    return call(case, pipe, prompt, **({"output_type": "np"} | settings))


@pytest.mark.parametrize("name", MOST_SLOW)
def test_arguments(name: str):
    case = CASES[name]
    ours = fresh(case, case.ours)
    for settings in VARIATIONS:
        alone = fresh(case, case.ours)
        output, wanted = run(case, ours, **settings), run(case, alone, **settings)
        assert np.array_equal(arrays(output), arrays(wanted))
        assert same_maps(output.attributions, wanted.attributions)
        assert ours.attributions is output.attributions


# Stable Diffusion XL decodes half-precision latents with a method that it is about to lose.
@pytest.mark.filterwarnings("ignore:.upcast_vae:FutureWarning")
@pytest.mark.parametrize("name", MOST_SLOW)
def test_types(name: str):
    """Weights that were rounded once stay so, and the next run is that of the rounded weights."""
    case = CASES[name]
    ours, stock = fresh(case, case.ours), fresh(case, case.stock)
    for dtype in (torch.float32, torch.bfloat16, torch.float32, torch.float16):
        output, wanted = (run(case, pipe.to(dtype)) for pipe in (ours, stock))
        assert np.array_equal(arrays(output), arrays(wanted))
        assert output.attributions[0].run["dtype"] == str(dtype).removeprefix("torch.")
        total = sum(grid.maps.sum(0) for grid in output.attributions[0].grids)
        assert torch.allclose(total, torch.ones_like(total), atol=1e-4)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_denoiser_that_is_exchanged(name: str):
    case = CASES[name]
    ours, other = fresh(case, case.ours), fresh(case, case.ours)
    with torch.no_grad():
        other.unet.conv_in.weight.mul_(0.5)
    first, wanted = run(case, ours), run(case, other)
    before = ours.unet
    ours.unet = other.unet
    output = run(case, ours)
    assert np.array_equal(arrays(output), arrays(wanted))
    assert same_maps(output.attributions, wanted.attributions)
    ours.unet = before
    assert same_maps(run(case, ours).attributions, first.attributions)
