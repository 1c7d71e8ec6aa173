"""One scale of noise for every scheduler."""

from __future__ import annotations

import diffusers
import pytest
import torch

from diffusers_rdaam import InputError, UnsupportedPipelineError
from diffusers_rdaam.images.noise_levels import DiffusionLevels, FlowLevels, levels_of

# Stable Diffusion's, and one whose last step has no signal at all.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# The levels of timesteps 100, 200, …, 800, from the definition s / (a + s).
KNOWN = {100: 0.256, 200: 0.364, 300: 0.454, 400: 0.538, 500: 0.618, 600: 0.696, 800: 0.836}
DIFFUSION = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler", "LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler",
    "TCDScheduler", "UniPCMultistepScheduler",
)  # fmt: skip


def noisy(level: float, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image, noise, and both together as a model sees them."""
    generator = torch.Generator().manual_seed(0)
    image, noise = torch.randn(2, 1, 4, 8, 12, generator=generator, dtype=torch.float64)
    return image, noise, scale * ((1.0 - level) * image + level * noise)


# Some of them form their betas as numpy does no longer want it.
@pytest.mark.filterwarnings("ignore:__array_")
@pytest.mark.parametrize("name", DIFFUSION)
def test_every_diffusion_scheduler_has_the_levels_of_the_definition(name):
    levels = levels_of(getattr(diffusers, name)(**BETAS))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, dim=0)
    for timestep, known in KNOWN.items():
        signal, noise = float(alphas[timestep].sqrt()), float((1 - alphas[timestep]).sqrt())
        level = noise / (signal + noise)
        assert level == pytest.approx(known, abs=6e-4)
        assert levels.timestep(level) == pytest.approx(timestep, abs=1e-2)
        assert levels.nearest(level) == pytest.approx(level, abs=1e-6)
        # As whole as the schedulers have it, from halfway to the next one.
        assert levels.timestep(levels.nearest(level + 3e-4)) == timestep


@pytest.mark.parametrize("timestep", [0, 1, 200, 999])
def test_noised_latents_are_those_of_add_noise(timestep):
    scheduler = diffusers.DDPMScheduler(**BETAS, rescale_betas_zero_snr=True)
    levels = levels_of(scheduler)
    level = levels.nearest(float(levels._levels[timestep]))
    image, noise, ours = noisy(level, levels.scale(level))
    wanted = scheduler.add_noise(image, noise, torch.tensor([timestep]))
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-6)


def test_flow_levels_are_those_of_scale_noise():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    levels = levels_of(scheduler)
    scheduler.set_timesteps(sigmas=[0.8, 0.37])
    assert levels == FlowLevels(1000.0)
    assert levels.timestep(0.37) == pytest.approx(float(scheduler.timesteps[1]))
    image, noise, ours = noisy(0.37, levels.scale(0.37))
    wanted = scheduler.scale_noise(image, scheduler.timesteps[1:], noise)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-6)


def test_an_inverted_schedule_counts_from_noise():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1)
    levels = levels_of(scheduler)
    assert levels.timestep(0.25) == 0.75
    output = torch.ones(1)
    assert levels.velocity(output, output, 0.25) == -1.0


def test_a_flow_of_another_schedulers_class_is_seen():
    scheduler = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction"
    )
    assert levels_of(scheduler) == FlowLevels(1000.0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_velocity_is_noise_minus_image_whatever_is_predicted(prediction):
    levels = levels_of(diffusers.DDIMScheduler(**BETAS, prediction_type=prediction))
    for level in (0.1, 0.37, 0.9):
        scale = levels.scale(level)
        image, noise, _ = noisy(level, scale)
        latents = (1.0 - level) * image + level * noise
        signal, amount = (1.0 - level) * scale, level * scale
        assert signal**2 + amount**2 == pytest.approx(1.0)
        output = {
            "epsilon": noise,
            "sample": image,
            "v_prediction": signal * noise - amount * image,
        }[prediction]
        torch.testing.assert_close(levels.velocity(output, latents, level), noise - image)


def test_a_timestep_may_lie_between_two():
    levels = DiffusionLevels(torch.tensor([0.9, 0.6, 0.3]), "epsilon")
    first, second, third = levels._levels.tolist()
    assert levels.timestep((first + second) / 2) == pytest.approx(0.5)
    assert (levels.timestep(0.0), levels.timestep(first / 2), levels.timestep(1.0)) == (0, 0, 2)
    assert levels.nearest(third - 1e-3) == third


def test_a_model_that_predicts_the_image_is_not_inverted_from_it():
    levels = DiffusionLevels(torch.tensor([0.9, 0.5]), "sample")
    with pytest.raises(InputError, match=r"cannot be inverted\. Use method='forward'"):
        levels.velocity(torch.ones(1), torch.ones(1), 0.0)


def test_a_scheduler_without_levels_is_refused_by_name():
    with pytest.raises(UnsupportedPipelineError, match="levels of EDMEulerScheduler are not known"):
        levels_of(diffusers.EDMEulerScheduler())
