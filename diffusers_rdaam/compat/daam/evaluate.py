"""DAAM's measures of how two maps overlap: products, so that they need no threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.metrics import overlap
from diffusers_rdaam.files.fields import MAX_AREA
from diffusers_rdaam.files.pictures import read_picture


def compute_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    """``sum(ab) / (sum(a) + sum(b) - sum(ab))`` of two maps or masks ``(height, width)``."""
    return overlap.soft_intersection_over_union(*_arrays(a, b))


def compute_ioa(a: torch.Tensor, b: torch.Tensor) -> float:
    """``sum(ab) / sum(a)``: how much of ``a`` lies in ``b``."""
    return overlap.soft_intersection_over_area(*_arrays(a, b))


def _arrays(a: torch.Tensor, b: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both at the size of ``b``."""
    pair = (_of_one_size(a, b), b)
    first, second = (one.detach().float().cpu().numpy() for one in pair)
    return first, second


def _of_one_size(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a`` as it is, or, where ``b`` is of another size, as a mask of that size."""
    if a.shape == b.shape:
        return a
    resized = F.interpolate(a[None, None].float(), size=tuple(b.shape), mode="bicubic")[0, 0]
    return (resized >= 1).to(resized.dtype)


def load_mask(path: str | Path, *, limit: int = MAX_AREA) -> torch.Tensor:
    """The pixels of an RGBA image that are not transparent, as 0 and 1, ``(height, width)``.

    Args:
        path: of the image.
        limit: of its pixels.

    Raises:
        InputError: the image has no alpha channel, has too many pixels, or is none.
    """
    image = read_picture(Path(path), formats=None, limit=limit)
    if "A" not in image.getbands():
        raise InputError(
            f"{path} has no alpha channel, which is the mask. Save it as RGBA, 0 outside."
        )
    return torch.from_numpy(np.array(image.getchannel("A")) > 0).float()
