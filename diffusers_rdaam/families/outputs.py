"""What a pipeline puts out, as one image after another; and runs whose maps are not the image's."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from diffusers_rdaam.errors import (
    ImageMismatchWarning,
    NoAttributionError,
    PromptSwitchedWarning,
)


def images_of(result: Any) -> Any:
    """The images of a pipeline's result in the order of its attributions.

    Videos are taken apart, video by video and frame by frame; of colour and depth the colour is
    taken.

    Args:
        result: the output of a pipeline's call, or the tuple with ``return_dict=False``.

    Returns:
        PIL images in a list, an array ``(n, height, width, 3)``, a tensor ``(n, 3, height,
        width)``, or latents as they are.
    """
    images = result[0]
    if isinstance(images, tuple):
        # Colour and depth, in a tuple of their own.
        images = images[0]
    if isinstance(images, (np.ndarray, Tensor)):
        return images.reshape(-1, *images.shape[2:]) if images.ndim == 5 else images
    if isinstance(images, list) and images and isinstance(images[0], list):
        return [frame for video in images for frame in video]
    return images


def check_arguments(pipe: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Refuse a run whose maps are not those of its images.

    Args:
        pipe: the pipeline that ran.
        arguments: of its call, by name; ``prompt`` as it was encoded.

    Returns:
        The arguments, with one prompt where the pipeline encoded the same one several times.

    Raises:
        NoAttributionError: the argument that makes them others, and what to do.
    """
    if arguments.get("padding_mask_crop") is not None:
        raise NoAttributionError(
            "With padding_mask_crop the denoiser works on an enlarged crop that is pasted into the "
            "image afterwards, so its maps are not maps of the image. Leave padding_mask_crop out, "
            "or crop the image yourself.",
            warning=ImageMismatchWarning,
        )
    prompt = arguments.get("prompt")
    if getattr(pipe, "free_noise_enabled", False) and isinstance(prompt, (list, dict)):
        texts = list(dict.fromkeys(prompt.values() if isinstance(prompt, dict) else prompt))
        if len(texts) > 1:
            raise NoAttributionError(
                "FreeNoise blends the embeddings of its prompts from frame to frame, so a column "
                f"stands for words of several of these {len(texts)}: "
                f"{', '.join(repr(text) for text in texts)}. Give one prompt for all frames.",
                warning=PromptSwitchedWarning,
            )
        return arguments | {"prompt": texts[0]}
    return arguments
