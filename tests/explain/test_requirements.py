"""Pipelines that no gradient gets through are refused, with the reason."""

from __future__ import annotations

import accelerate
import pytest
import torch
from toys import ALL_CASES

from diffusers_rdaam.errors import GradientError, UnsupportedPipelineError
from diffusers_rdaam.explain.gradients.gradient import explain_gradient


def test_an_offloaded_denoiser(make, settings, prompt):
    pipe = make()
    accelerate.cpu_offload(pipe.unet, execution_device="cpu")
    with pytest.raises(GradientError, match=r"through pipe.unet: accelerate offloads it.*Load the"):
        explain_gradient(pipe, prompt, **settings())


def test_layerwise_casting(make, settings, prompt):
    pipe = make()
    pipe.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    with pytest.raises(GradientError, match=r"through pipe.unet: diffusers' hooks change it"):
        explain_gradient(pipe, prompt, **settings())


def test_quantised_weights(make, settings, prompt):
    pipe = make()
    module = pipe.unet.mid_block.resnets[0].conv1
    module.weight = torch.nn.Parameter(module.weight.detach().to(torch.int8), requires_grad=False)
    text = r"through pipe.unet: its weights are quantised \(torch.int8\). Load the pipeline in"
    with pytest.raises(GradientError, match=text):
        explain_gradient(pipe, prompt, **settings())


def test_weights_of_inference_mode(make, settings, prompt):
    with torch.inference_mode():
        pipe = make()
    with pytest.raises(
        GradientError, match=r"through pipe.unet: it was made in torch.inference_mode"
    ):
        explain_gradient(pipe, prompt, **settings())


def test_a_call_without_gradients(make, settings, prompt):
    pipe = make()

    class Mine(type(pipe)):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    pipe.__class__ = Mine
    with pytest.raises(GradientError, match="no gradient gets from Mine's image to its prompt"):
        explain_gradient(pipe, prompt, **settings())


@pytest.mark.parametrize("name", ["StableDiffusionControlNet", "LatentConsistencyModel"])
def test_other_pipelines_by_name(name, make, prompt):
    with pytest.raises(UnsupportedPipelineError, match=f"{name}Pipeline cannot be explained by"):
        explain_gradient(make(ALL_CASES[name]), prompt)
