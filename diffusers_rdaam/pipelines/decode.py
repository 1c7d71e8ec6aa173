"""Latents as images, in the middle of a run, by the pipeline's own decoder."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffusers_rdaam.errors import InputError


@torch.no_grad()
def decode_latents(pipe: Any, latents: Tensor) -> list[Image.Image]:
    """Decode latents as the pipeline does at its end, without watermark and safety checker.

    No random number is drawn and the decoder is left in the type it had, so a run that goes on
    afterwards makes the same image.

    Args:
        pipe: with ``vae`` and ``image_processor``.
        latents: ``(images, channels, height, width)``; they are not changed.

    Raises:
        InputError: the latents are not those of images, or the pipeline has no decoder for them.
    """
    vae, processor = getattr(pipe, "vae", None), getattr(pipe, "image_processor", None)
    if vae is None or processor is None or latents.ndim != 4:
        raise InputError(
            f"Latents {tuple(latents.shape)} of {type(pipe).__name__} cannot be decoded one by "
            "one: (images, channels, height, width), a vae and an image_processor were expected."
        )
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
                undo.callback(vae.to, dtype=vae.dtype)
                vae.to(dtype=torch.float32)
            images = vae.decode(_unscaled(vae.config, latents.to(vae.dtype)), return_dict=False)[0]
    finally:
        undo.close()
    return processor.postprocess(images.float(), output_type="pil")


def _unscaled(config: Any, latents: Tensor) -> Tensor:
    mean, deviation = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or deviation is None:
        return latents / config.scaling_factor
    mean, deviation = (
        torch.tensor(values, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)
        for values in (mean, deviation)
    )
    return latents * deviation / config.scaling_factor + mean
