"""Arguments of a call: latents and images in, and whatever else some pipelines take."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from alike import alike, failure, twins
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from toys import CASES, Case, call, picture, toy

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
FROM_IMAGES = [it for it in ALL if "image" in it.values[0].call and "Inpaint" not in it.id]
FIRST = [pytest.param(CASES[name], id=name) for name in ("StableDiffusion", "StableDiffusionXL")]


def takes(case: Case, name: str) -> bool:
    return name in inspect.signature(case.stock.__call__).parameters


@pytest.mark.parametrize("case", [it for it in ALL if "Img" not in it.id and "Pix" not in it.id])
def test_latents_given_are_those_of_the_generator(case):
    """Twice: as a tensor, and as the generator that draws it."""
    if "Inpaint" in case.name:
        return _latents_of_inpainting(case)
    latents = randn_tensor((1, 4, 8, 12), generator=torch.Generator().manual_seed(7))
    pipes = toy(case)
    given = alike(pipes, lambda pipe: call(case, pipe, latents=latents.clone())).result
    drawn = call(case, pipes[1])
    # What is drawn after the latents differs; DDIM at eta 0 draws nothing.
    assert case.always or np.array_equal(np.asarray(given.images[0]), np.asarray(drawn.images[0]))
    return None


def _latents_of_inpainting(case: Case) -> None:
    latents = randn_tensor((1, 4, 8, 12), generator=torch.Generator().manual_seed(7))
    alike(toy(case), lambda pipe: call(case, pipe, latents=latents.clone()))


@pytest.mark.parametrize("case", FROM_IMAGES)
def test_latents_out_of_one_call_go_into_another(case):
    """Where a tensor of four channels is taken as the image's latents."""
    pipes = toy(case)
    latents = torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(1))
    settings = {"image": latents, "output_type": "latent"}
    error = failure(lambda: call(case, pipes[0], **settings))
    alike(pipes, lambda pipe: call(case, pipe, **settings), error=error)
    if "Img2Img" in case.name:
        assert error is None


def forms() -> dict[str, Any]:
    image = picture()
    array = np.asarray(image).astype(np.float32) / 255.0
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None]
    return {"pt": tensor, "np": array[None], "list": [image]}


@pytest.mark.parametrize("form", forms())
@pytest.mark.parametrize("case", FROM_IMAGES[::3])
def test_forms_of_an_image(case, form):
    output = alike(toy(case), lambda pipe: call(case, pipe, image=forms()[form])).result
    assert output.attribution.image_size == (64, 96)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("case", FIRST)
def test_latents_of_another_number(case):
    """The texts differ: ours meets the rows that do not fit a line earlier."""
    for pipe in toy(case):
        with pytest.raises(RuntimeError, match="must match the size"):
            call(case, pipe, latents=torch.zeros(2, 4, 8, 12))


# One value or several that a call of some stock pipelines takes; errors are compared as well.
OPTIONS: dict[str, Any] = {
    "guidance_scale": [0.0, 1.0, torch.tensor(3.0), np.float32(2.0)],
    "negative_prompt": ["blurred"],
    "negative_prompt_2": ["blurred"],
    "prompt_2": ["an oil painting"],
    "strength": [0.3, 1.0, 1.5],
    "eta": [1.0],
    "guidance_rescale": [0.7],
    "clip_skip": [1],
    "cross_attention_kwargs": [{"scale": 0.5}],
    "image_guidance_scale": [0.5, 2.0],
    "original_guidance_steps": [4],
    "original_inference_steps": [10],
    "denoising_end": [0.6],
    "denoising_start": [0.2],
    "original_size": [(128, 128)],
    "crops_coords_top_left": [(8, 8)],
    "target_size": [(32, 48)],
    "negative_original_size": [(32, 32)],
    "aesthetic_score": [3.0],
    "guess_mode": [True],
    "controlnet_conditioning_scale": [0.3],
    "control_guidance_end": [0.5],
    "timesteps": [[900, 400, 100]],
    "sigmas": [[9.0, 3.0, 0.5]],
    "num_inference_steps": [np.int64(6)],
    "generator": [None],
}
WHO = ["StableDiffusion", "StableDiffusionXLInpaint", "StableDiffusionXLControlNetImg2Img"]
WHO += ["StableDiffusionInstructPix2Pix", "LatentConsistencyModel"]


@pytest.mark.every(3)
@pytest.mark.parametrize("name", WHO)
def test_options_that_some_take(name):
    case, pipes = CASES[name], toy(CASES[name])
    tried = 0
    for option, choices in OPTIONS.items():
        for value in choices if takes(case, option) else ():

            def treat(pipe: Any, setting: dict[str, Any]) -> Any:
                torch.manual_seed(11)
                return call(case, pipe, output_type="latent", **setting)

            setting = {option: value}
            calls: list[Any] = []
            note = pipes[0].unet.register_forward_pre_hook(lambda *it, seen=calls: seen.append(it))
            error = failure(lambda it=setting: treat(pipes[0], it))
            note.remove()
            # Few steps times little strength are none: there is nothing to record then.
            more = None if error is not None or calls else "NotRecordedWarning"
            output = alike(
                pipes, lambda pipe, it=setting: treat(pipe, it), error=error, more=more
            ).result
            assert (error or more) is not None or len(output.attributions) == 1
            tried += error is None
    assert tried >= 6


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DDPMScheduler])
@pytest.mark.parametrize("case", FIRST)
def test_schedules_of_ones_own(case, scheduler):
    pipes = twins(case)
    for pipe in pipes:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    for setting in ({"timesteps": [900, 400, 100]}, {"sigmas": [9.0, 3.0, 0.5, 0.0]}):
        error = failure(lambda it=setting: call(case, pipes[0], **it))
        alike(pipes, lambda pipe, it=setting: call(case, pipe, **it), error=error)


@pytest.mark.parametrize("size", [(64, 96), (40, 56), (64, None), (None, None)])
@pytest.mark.parametrize("case", FIRST)
def test_sizes(case, size):
    height, width = size
    settings = {"height": height, "width": width, "num_inference_steps": 1}
    output = alike(toy(case), lambda pipe: call(case, pipe, **settings)).result
    image = output.images[0]
    assert isinstance(image, Image.Image)
    assert output.attribution.image_size == image.size[::-1]
