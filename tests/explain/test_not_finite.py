"""What is not finite is named, with its method and step; float16 from scaled values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusers_rdaam.errors import GradientError
from diffusers_rdaam.explain.gradients.backward import Watch, differentiate
from diffusers_rdaam.explain.gradients.gradient import explain_gradient

BOX, OTHER = (24, 8, 72, 40), (0, 40, 96, 64)


class NoGradient(torch.autograd.Function):
    """The same value; a gradient that is NaN."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Any) -> Any:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * float("nan")


def spoil(module: Any, timestep: int | None) -> None:
    """Spoil the gradient of a module's output, at one timestep if given."""

    def hook(module: Any, args: Any, output: Any) -> Any:
        if timestep is not None and int(args[1]) != timestep:
            return output
        return (NoGradient.apply(output[0]),)

    module.register_forward_hook(hook)


@pytest.mark.parametrize("regions", [[BOX], [BOX, OTHER]])
@pytest.mark.parametrize("timestep, call", [(501, 1), (1, 2)])
def test_the_step_is_named(timestep, call, regions, make, settings, prompt):
    pipe = make()
    assert pipe.scheduler.config.num_train_timesteps == 1000
    spoil(pipe.unet, timestep)
    text = f"max_grad: the gradient is not finite on the way back through denoiser call {call} of 2"
    with pytest.raises(GradientError, match=text):
        explain_gradient(pipe, prompt, regions=regions, method="max_grad", **settings())


def test_the_decoder_is_named(make, settings, prompt):
    pipe = make()
    pipe.vae.decoder.register_forward_hook(lambda m, a, output: NoGradient.apply(output))
    with pytest.raises(GradientError, match="not finite on the way back through the decoder"):
        explain_gradient(pipe, prompt, region=BOX, **settings())
    pipe.vae.decoder._forward_hooks.clear()


def test_an_output_that_is_not_finite_is_named(make, settings, prompt):
    pipe = make()

    def hook(module: Any, args: Any, output: Any) -> Any:
        return (output[0] * float("inf"),) if int(args[1]) == 1 else output

    pipe.unet.register_forward_hook(hook)
    with pytest.raises(GradientError, match="output is not finite in call 2 of 2"):
        explain_gradient(pipe, prompt, region=BOX, **settings())


def test_float16_overflows_are_scaled_down():
    leaf = torch.ones(4, dtype=torch.float16, requires_grad=True)
    value = (leaf * 300).float().sum() * 300
    (found,) = differentiate([value], {"text": leaf}, Watch(), str)
    assert found["text"].dtype == torch.float32
    assert torch.allclose(found["text"], torch.full((4,), 90_000.0), rtol=1e-3)


def test_float16_that_stays_too_large_says_what_was_tried():
    leaf = torch.ones(4, dtype=torch.float16, requires_grad=True)
    value = ((leaf * 1000).half() * 1000).float().sum() * 6e4
    with pytest.raises(GradientError, match=r"^3\.05"):
        differentiate([value], {"text": leaf}, Watch(), str)


# Stock diffusers' own call of what it has deprecated.
@pytest.mark.filterwarnings("ignore:.upcast_vae:FutureWarning")
@pytest.mark.parametrize(
    "case", ["StableDiffusion", "StableDiffusionXL", "StableDiffusionXLImg2Img"]
)
def test_float16_pipelines(case, make, settings, prompt):
    given = settings(case)
    wanted = explain_gradient(make(case), prompt, region=BOX, **given)
    half, stock = (make(case).to(torch.float16) for _ in range(2))
    image = stock(prompt=prompt, **settings(case)).images[0]
    words = explain_gradient(half, prompt, regions=[BOX, OTHER], **given)[0]
    assert words.image.tobytes() == image.tobytes()
    assert words.values.dtype == torch.float32
    assert half.vae.dtype == torch.float16
    assert torch.allclose(
        words.values, wanted.values, rtol=0.2, atol=0.02 * float(wanted.values.max())
    )
