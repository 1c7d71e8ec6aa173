"""A pipeline's images, one after another, and its masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from diffusers_rdaam.geometry.region import Mask


def images_of(result: Any) -> Any:
    """The images of a pipeline's result in the order of its attributions.

    A video is a sequence of frames, which follow each other video by video. Of a pair of colour
    and depth only the colour is taken.

    Args:
        result: the output of a pipeline's call; also the tuple of ``return_dict=False``.

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


def inpaint_masks(pipe: Any, image: Any, size: tuple[int, int]) -> list[Mask | None]:
    """The regions that inpainting paints anew, as the pipeline sees them, one for each mask.

    Args:
        pipe: the pipeline that ran.
        image: the argument ``mask_image`` of its call.
        size: height and width of the images in pixels.

    Returns:
        The masks, None for one without white, which is not a region; an empty list where the call
        or the pipeline has no mask.
    """
    processor = getattr(pipe, "mask_processor", None)
    if image is None or processor is None:
        return []
    weights = processor.preprocess(image, height=size[0], width=size[1])[:, 0].float().cpu()
    return [Mask(part) if bool(part.any()) else None for part in weights]
