"""OVAM's helpers: seeds, devices, and a map at an image's size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from diffusers_rdaam.compat.daam.devices import set_seed
from diffusers_rdaam.compat.daam.plotting import image_size, plot_overlay_heat_map
from diffusers_rdaam.errors import InputError

__all__ = ["expand_as", "get_device", "plot_overlay_heat_map", "set_seed"]


def get_device() -> str:
    """``"cuda"``, ``"mps"`` or ``"cpu"``, the first that there is."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def expand_as(
    image: Image.Image | np.ndarray,
    heatmap: torch.Tensor,
    absolute: bool = False,
    threshold: float | None = None,
    interpolation_mode: str = "bilinear",
) -> torch.Tensor:
    """Maps at an image's size, without the axes of one.

    Args:
        image: whose size is taken.
        heatmap: ``(images, tokens, height, width)``.
        absolute: leave the values as they are; else all together are stretched to 0 to 1.
        threshold: give 1 over it and 0 elsewhere; a threshold of 0 is one, too.
        interpolation_mode: of :func:`torch.nn.functional.interpolate`.

    Returns:
        ``(tokens, height, width)`` of one image, on the CPU.

    Raises:
        InputError: the maps have another number of axes.
    """
    if heatmap.ndim != 4:
        raise InputError(
            f"Maps are (images, tokens, height, width); got {tuple(heatmap.shape)}. Put axes of "
            "one in front: heatmap[None]."
        )
    maps = F.interpolate(
        heatmap.float().detach(), size=image_size(image), mode=interpolation_mode
    ).cpu()
    if not absolute:
        maps = (maps - maps.min()) / (maps.max() - maps.min() + 1e-8)
    if threshold is not None:
        maps = (maps > threshold).float()
    return maps.squeeze()
