"""explain_gradient on every pipeline that it takes, against finite differences and stock images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explained import EXPLAINED

from diffusers_rdaam.explain.gradients.gradient import explain_gradient
from diffusers_rdaam.explain.gradients.regeneration import GradientOptions, GradientRegeneration
from diffusers_rdaam.geometry.region import Box

BOX = (24, 8, 72, 40)
OTHER = (0, 40, 96, 64)


@pytest.mark.values
@pytest.mark.parametrize("case", EXPLAINED)
@pytest.mark.parametrize("ours", [False, True])
def test_the_image_is_the_stock_pipelines(case, ours, make, settings, prompt):
    wanted = make(case)(prompt=prompt, **settings(case)).images[0]
    pipe = make(case, ours=ours)
    before = dict(pipe.__dict__)
    given = settings(case)
    state = given["generator"].get_state()
    words = explain_gradient(pipe, prompt, region=BOX, **given)
    assert np.array_equal(words.image, wanted)
    assert {word.text for word in words} == {"a", "red", "cat", "near", "house"}
    assert all(word.score > 0 for word in words)
    assert (words.pixels is not None) == ("Img2Img" in case or "npaint" in case or "nine" in case)
    assert (words.pooled is not None) == ("XL" in case)
    assert pipe.__dict__ == before
    assert torch.equal(given["generator"].get_state(), state)


@pytest.mark.values
@pytest.mark.parametrize("case", EXPLAINED)
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_finite_differences(case, guidance, make, settings, prompt):
    """Of the sum over the region, in float64, by every leaf along a random direction."""
    pipe = make(case)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
        if part is not None:
            part.to(torch.float64)
    arguments = settings(case, guidance_scale=guidance) | {"prompt": prompt}
    asked = GradientOptions("any", None, True, True, False, None)
    regions = [Box(*BOX)]

    def value(shift: dict[str, torch.Tensor]) -> float:
        regeneration = Shifted(pipe, asked, regions)
        regeneration.shift = shift
        regeneration.run(fresh(arguments))
        return float(regeneration.value(0).detach())

    regeneration = GradientRegeneration(pipe, asked, regions)
    regeneration.run(fresh(arguments))
    (gradients,) = regeneration.gradients()
    assert set(gradients) >= ({"text", "pooled"} if "XL" in case else {"text"})
    generator = torch.Generator().manual_seed(0)
    for name, gradient in gradients.items():
        # An image is read in float32, where steps as small would be lost.
        step = 1e-5 if gradient.dtype == torch.float64 else 1e-3
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction = direction.to(gradient.dtype)
        difference = value({name: step * direction}) - value({name: -step * direction})
        wanted = difference / (2 * step)
        tolerance = 1e-6 if gradient.dtype == torch.float64 else 2e-3
        assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=tolerance)
        assert abs(wanted) > 1e-6


class Shifted(GradientRegeneration):
    shift: dict[str, torch.Tensor]

    def _leaf(self, name, value):
        return super()._leaf(name, value + self.shift.get(name, 0.0))


def fresh(arguments):
    return arguments | {"generator": torch.Generator().manual_seed(7)}
