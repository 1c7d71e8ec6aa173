"""Pictures, masks and videos that are drawn, the same each time, for a call that needs some."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def picture(size: tuple[int, int]) -> Image.Image:
    """A picture in colours, the same each time, with edges and smooth parts."""
    height, width = size
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    disc = np.hypot(down - 0.5, across - 0.4) < 0.25
    levels = np.stack([across, down, 0.5 + 0.5 * np.sin(9 * (down + 2 * across))], axis=-1)
    levels[disc] = (0.9, 0.2, 0.1)
    return Image.fromarray((levels * 255).round().astype(np.uint8))


def mask(size: tuple[int, int]) -> Image.Image:
    """A mask whose right half is white."""
    height, width = size
    levels = np.zeros((height, width), dtype=np.uint8)
    levels[:, width // 2 :] = 255
    return Image.fromarray(levels)


def moved(one: Image.Image, index: int) -> Image.Image:
    """A frame of a video: the picture, rolled to the right."""
    levels = np.asarray(one)
    return one if one.mode == "L" else Image.fromarray(np.roll(levels, 2 * index, axis=1))


def as_tensor(frames: list[Image.Image]) -> torch.Tensor:
    """``(1, channels, frames, height, width)``: colours from 0 to 1, masks from 0 to 255."""
    levels = np.stack([np.atleast_3d(np.asarray(one, dtype=np.float32)) for one in frames])
    most = 1.0 if frames[0].mode == "L" else 255.0
    return torch.from_numpy(levels / most).permute(3, 0, 1, 2)[None]
