"""A small picture and label maps over it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.segmentation.label_map import Segmentation

SIZE = (24, 32)


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    """A dark square on a light ground, with noise."""
    pixels = np.random.default_rng(0).integers(210, 240, (*size, 3), dtype=np.uint8)
    pixels[6:16, 8:20] = pixels[6:16, 8:20] - 180
    return Image.fromarray(pixels)


def labelled(*, cat: int = 40, dog: int = 0, size: tuple[int, int] = SIZE) -> Segmentation:
    """A cat of so many pixels in the first rows, and a dog in the last."""
    labels = torch.zeros(size, dtype=torch.int64)
    labels.flatten()[:cat] = 1
    if dog:
        labels.flatten()[-dog:] = 2
    found = (1, 2) if dog else (1,)
    return Segmentation(labels, ("cat", "dog"), picture(size), found=found)
