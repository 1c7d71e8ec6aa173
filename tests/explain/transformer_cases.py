"""Stable Diffusion 3 and FLUX.1 at toy size, as the tests of explanations call them."""

from __future__ import annotations

from typing import Any

import torch
from builders_joint import CASES
from dense_oracle import Case
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffusers_rdaam.pipelines.classes import recording_class

NAMES = (
    "StableDiffusion3Pipeline",
    "StableDiffusion3Pipeline, no guidance",
    "StableDiffusion3Pipeline, dual layers",
    "StableDiffusion3Pipeline, skipped layers",
    "StableDiffusion3Img2ImgPipeline",
    "StableDiffusion3InpaintPipeline",
    "FluxPipeline",
    "FluxPipeline, embedded guidance",
    "FluxPipeline, true guidance",
    "FluxPipeline, image prompt",
    "FluxImg2ImgPipeline",
    "FluxInpaintPipeline",
)
PROMPT = "a cat with an umbrella"
WORDS = ["a", "cat", "with", "an", "umbrella"]
# Of an image that is 24 pixels wide and 16 high.
BOX, OTHER = (4, 2, 18, 12), (0, 8, 24, 16)


def case_of(name: str) -> Case:
    return CASES[name]()


def pipeline(name: str, *, ours: bool = False) -> Any:
    """A pipeline with parts of its own, the stock class or ours."""
    pipe = case_of(name).make()
    if not ours:
        return pipe
    found = recording_class(type(pipe).__name__)(**pipe.components)
    found.set_progress_bar_config(disable=True)
    return found


def settings(name: str, *, seed: int = 7, **more: Any) -> dict[str, Any]:
    """The arguments of a call, without the prompt."""
    call = dict(case_of(name).call)
    del call["prompt"], call["output_type"]
    if "negative_prompt" in call:
        call["negative_prompt"] = call["negative_prompt"][0]
    if "strength" in call:
        # From noise alone the input image would not count.
        call |= {"strength": 0.5, "num_inference_steps": 4}
    return call | {"generator": torch.Generator().manual_seed(seed)} | more


def processors(pipe: Any) -> dict[str, tuple[Any, type]]:
    """Every attention processor of the denoiser, and its class now."""
    named = pipe.transformer.named_modules()
    found = {name: getattr(module, "processor", None) for name, module in named}
    return {name: (one, type(one)) for name, one in found.items() if one is not None}


class NothingRounded(TorchFunctionMode):
    """Float64 stays float64 where diffusers computes in float32: rotations, norms, schedulers.

    The way back does not see it, so it does not go with checkpointing.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            asked = [one for one in (*args[1:], *kwargs.values()) if isinstance(one, torch.dtype)]
            if func is Tensor.float or (func is Tensor.to and asked == [torch.float32]):
                return args[0]
        return func(*args, **kwargs)
