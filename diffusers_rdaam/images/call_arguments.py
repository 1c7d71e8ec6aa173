"""The arguments with which a pipeline's own call follows a trajectory of one image."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from PIL import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.families import family_of

# What is decided by the image and the noise levels.
_DECIDED = (
    "latents", "num_inference_steps", "timesteps", "sigmas", "strength", "height", "width",
    "num_images_per_prompt", "output_type", "return_dict", "denoising_start", "denoising_end",
)  # fmt: skip
# Of these the call's ``image=`` is the image that is noised.
_NOISES_ITS_IMAGE = ("Img2Img", "Inpaint", "Depth2Img")
# With one of them the call has guidance.
_SCALES = ("guidance_scale", "true_cfg_scale")
# Guidance that is off at another number than 1, by the beginning of the class's name.
_OFF_AT_ZERO = ("ZImage", "Krea2")


def check_call(pipe: Any, call: Mapping[str, Any]) -> None:
    """Refuse arguments of the pipeline's call that the image and the levels decide, or without use.

    Raises:
        InputError: one of them was given.
    """
    hints = {"height": "size=(height, width)", "width": "size=(height, width)"}
    hints |= dict.fromkeys(("num_inference_steps", "timesteps", "sigmas"), "noise= and draws=")
    for name in _DECIDED:
        if name in call:
            hint = f" Give {hints[name]}." if name in hints else " Leave it out."
            raise InputError(
                f"{name}= is not an argument here: the image and the noise levels decide it.{hint}"
            )
    if call.get("negative_prompt") and not any(name in call for name in _SCALES):
        raise InputError(
            "negative_prompt= has no effect here: an image is attributed without guidance. Leave "
            "it out, or give guidance_scale= too."
        )


def call_arguments(
    pipe: Any,
    name: str,
    images: list[Image.Image],
    *,
    calls: int,
    given: Mapping[str, Any],
    pipeline_image: Any = None,
) -> dict[str, Any]:
    """The keyword arguments of the call, without prompt, generator and output type.

    Args:
        pipe: the pipeline.
        name: of its class of diffusers.
        images: resized, one a prompt.
        calls: the number of denoiser calls.
        given: what the user gives, which wins.
        pipeline_image: what the call's own ``image=`` gets, where that is not the image itself.

    Raises:
        InputError: the pipeline needs another image as well, or takes none.
    """
    names = inspect.signature(type(pipe).__call__).parameters
    width, height = images[0].size
    wanted: dict[str, Any] = {
        "num_inference_steps": calls,
        "height": height,
        "width": width,
        "strength": 1.0,
        "pag_scale": 0.0,
        # Sizes are decided already, and not to be put into a list of usual ones.
        "use_resolution_binning": False,
        "max_area": height * width,
        "_auto_resize": False,
        **_without_guidance(pipe, name, names),
    }
    arguments = {key: value for key, value in wanted.items() if key in names}
    arguments |= _images(name, names, images, pipeline_image)
    return {**arguments, **given}


def _images(
    name: str, names: Mapping[str, Any], images: list[Image.Image], pipeline_image: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    noises = "image" in names and any(part in name for part in _NOISES_ITS_IMAGE)
    if pipeline_image is not None:
        if noises or "image" not in names:
            raise InputError(
                f"pipeline_image= is for pipelines whose call reads another image as well; "
                f"{name}'s does not. Leave it out."
            )
        found["image"] = pipeline_image
    elif noises:
        found["image"] = images if len(images) > 1 else images[0]
    elif "image" in names and _needs_image(name):
        raise InputError(
            f"{name} reads another image, too, not the one that is attributed: one that it was "
            "made from, or that steers it. Give that with pipeline_image=…"
        )
    if "mask_image" in names:
        # All of the image is the prompt's, unless the user says which part is.
        found["mask_image"] = Image.new("L", images[0].size, 255)
    return found


def _needs_image(name: str) -> bool:
    """Whether a call cannot be made without ``image=``: FLUX's references may be left out."""
    return not name.startswith(("Flux2", "FluxKontextPipeline"))


def _without_guidance(pipe: Any, name: str, names: Mapping[str, Any]) -> dict[str, float]:
    """The scale at which there is no classifier-free guidance: it would cost calls for nothing.

    A scale that the model reads as an input stays what it is by default.
    """
    found = {}
    if "true_cfg_scale" in names:
        found["true_cfg_scale"] = 1.0
    config: Any = family_of(pipe).denoiser(pipe).config
    is_input = config.get("guidance_embeds") or config.get("time_cond_proj_dim") is not None
    if not is_input:
        found["guidance_scale"] = 0.0 if name.startswith(_OFF_AT_ZERO) else 1.0
    return found
