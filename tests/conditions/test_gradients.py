"""A denoiser that is differentiated: checkpointed layers run again on the way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cell import denoiser_calls
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from oracle import Seen, check, watched
from toys import CASES, SITES, build, call, parts_of

from diffusers_rdaam import RDAAMPipelineMixin, RDAAMProcessor

CASE = CASES["StableDiffusion"]


class SteeredPipeline(StableDiffusionPipeline):
    """Moves the latents along a gradient through the denoiser at every step."""

    def __call__(self, prompt: str, num_inference_steps: int = 2, output_type: str = "latent"):
        self._guidance_scale = 1.0
        text, _ = self.encode_prompt(prompt, "cpu", 1, False)
        self.scheduler.set_timesteps(num_inference_steps)
        latents = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(7))
        for timestep in self.scheduler.timesteps:
            with torch.enable_grad():
                latents = latents.detach().requires_grad_()
                noise = self.unet(latents, timestep, encoder_hidden_states=text).sample
                (gradient,) = torch.autograd.grad(noise.square().mean(), latents)
            latents = self.scheduler.step(noise - gradient, timestep, latents).prev_sample.detach()
        return StableDiffusionPipelineOutput(latents, None)


class SteeredRDAAMPipeline(RDAAMPipelineMixin, SteeredPipeline):
    pass


def once(seen: Seen, calls: int) -> Seen:
    """What was seen on the way there: each site's first of the two times in a call."""
    kept = Seen({name: pairs[:: len(pairs) // calls] for name, pairs in seen.items()})
    kept.masks = {name: masks[:: len(masks) // calls] for name, masks in seen.masks.items()}
    return kept


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_computed_again_for_a_gradient_is_not_counted_again(checkpointing: bool):
    parts = parts_of(CASE)
    stock, ours = (build(cls, parts) for cls in (SteeredPipeline, SteeredRDAAMPipeline))
    for pipe in (stock, ours):
        if checkpointing:
            pipe.unet.enable_gradient_checkpointing()
            pipe.unet.train()
    ours.set_attn_processor(RDAAMProcessor())
    wanted = stock("a red cat")
    with watched(ours) as seen, denoiser_calls(ours) as calls:
        output = ours("a red cat")
    assert torch.equal(output.images, wanted.images)
    assert calls == [1, 1]
    assert {len(pairs) for pairs in seen.values()} == {4 if checkpointing else 2}
    check(output.attributions, once(seen, 2), SITES)


def gradients(pipe: Any) -> list[torch.Tensor]:
    """Of the weights, from a call of the denoiser within a run."""
    found: list[torch.Tensor] = []

    def differentiate(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        with torch.enable_grad():
            text = torch.ones(1, 77, 32)
            noise = pipe.unet(tensors["latents"], timestep, encoder_hidden_states=text).sample
            noise.square().mean().backward()
        found.extend(weight.grad.clone() for weight in pipe.unet.parameters())
        return tensors

    call(CASE, pipe, num_inference_steps=1, guidance_scale=1.0, callback_on_step_end=differentiate)
    return found


def test_gradients_are_those_of_the_stock_processors():
    parts = parts_of(CASE)
    wanted, got = (gradients(build(cls, parts)) for cls in (CASE.stock, CASE.ours))
    assert len(wanted) > 100 and any(gradient.any() for gradient in wanted)
    assert all(torch.equal(one, other) for one, other in zip(wanted, got, strict=True))
