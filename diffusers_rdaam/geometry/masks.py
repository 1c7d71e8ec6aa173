"""Masks from images, arrays and tensors: one weight for each pixel.

A mask says "inside" or "outside" in one of these ways, in any image mode, number type and layout:
booleans; 0 and 1; 0 and the highest level (255, or 65535 in 16 bits); or, as floats from 0 to 1,
which share of a pixel is inside. Anything else is refused, because a photograph or a label map
would pass for a soft mask.

The 255 of label maps is another: next to 1, which is inside, it says that a pixel is not counted
("void", "ignore"). Only what fits to a mask takes it, by :func:`split_void`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.shapes import Column

_HIGHEST = (1, 255, 65535)
# What data sets write where nobody has said what a pixel is.
VOID = 255
_NOT_NUMBERS = (
    "A mask is an array of numbers, not {}. Give booleans, 0 and 1, 0 and 255, or floats from 0 to "
    "1, as a list, an array, a tensor or a PIL image."
)


def mask_tensor(value: Any) -> Column:
    """A mask as float32 ``(height, width)`` with values in [0, 1], not all zero."""
    if isinstance(value, Image.Image):
        weights = _weights_of_image(value)
    else:
        weights = _weights(_one_plane(as_array(value)), "array")
    if not weights.any():
        raise RegionError("The mask is all zero: no pixel is inside.")
    return torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32))


def split_void(value: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """What is inside and what is not counted, of a mask that has 1, 255 and no more than 0.

    Without a 1 the mask is black and white, and 255 is inside.

    Args:
        value: an image, list, array or tensor; of a palette image the indices are meant.
        size: height and width of the image that the mask is of.

    Returns:
        Two arrays of booleans ``(height, width)``; None for everything else.
    """
    if not isinstance(value, (Image.Image, list, np.ndarray, torch.Tensor)):
        return None
    try:
        array = _one_plane(as_array(value))
    except RegionError:
        return None
    if array.shape != size or array.dtype.kind == "b":
        return None
    inside, void = array == 1, array == VOID
    if not inside.any() or not void.any() or not (inside | void | (array == 0)).all():
        return None
    return inside, void


def as_array(value: Any) -> np.ndarray:
    """Numbers in memory, from a list, an array, or a tensor on any device."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise RegionError("This array has masked entries. Fill them first: array.filled(0).")
    try:
        if isinstance(value, torch.Tensor):
            tensor = (value if value.layout == torch.strided else value.to_dense()).detach().cpu()
            # Types that numpy lacks: bfloat16, and those of 8 bits.
            value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind == "c":
        raise RegionError(f"A mask is boolean or of floats from 0 to 1, not {array.dtype}.")
    if array.dtype.kind not in "biuf":
        raise RegionError(_NOT_NUMBERS.format(repr(str(value)[:80])))
    return array


def _one_plane(array: np.ndarray) -> np.ndarray:
    """The two axes of a mask; axes of length 1 and channels that are all the same left out."""
    shape = array.shape
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3:
        for axis in (-1, 0):
            if array.shape[axis] == 3:
                first = array.take([0], axis)
                if bool((array == first).all()):
                    return first.squeeze(axis)
    if array.ndim == 3:
        raise RegionError(
            f"A mask has two axes (height, width), this has shape {shape}: colours, or several "
            "masks. Give one of them; regions() takes several."
        )
    if array.ndim != 2:
        raise RegionError(f"A mask has two axes (height, width), this has shape {shape}.")
    return array


def _weights_of_image(image: Image.Image) -> np.ndarray:
    kind = f"image (mode {image.mode})"
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;"):
        return _weights(np.asarray(image), kind)
    if image.mode == "P" and "transparency" not in image.info:
        return _weights_of_palette(image)
    colours = np.asarray(image.convert("RGBA"))
    grey, alpha = colours[..., 0], colours[..., 3]
    if bool((colours[..., :3] != grey[..., None]).any()):
        raise RegionError(
            f"This {kind} has colours, like a photograph, and a mask is black and white. Give an "
            "array that says which pixels are inside: (np.asarray(image) == colour).all(-1)."
        )
    if bool((alpha != 255).any()) and bool((alpha != grey).any()):
        raise RegionError(
            f"This {kind} has transparent pixels, and it is not known whether these are inside. "
            "Give the channel that is the mask: image.getchannel('A'), or image.convert('L')."
        )
    return _weights(grey, kind)


def _weights_of_palette(image: Image.Image) -> np.ndarray:
    """By the colours where they are grey: a palette may begin with white. Else by the labels."""
    colours = np.asarray(image.convert("RGB"))
    if bool((colours == colours[..., :1]).all()):
        return _weights(colours[..., 0], "image (mode P)")
    labels = np.asarray(image)
    palette = image.getpalette() or []
    if int(labels.max()) > 1 or any(palette[:3]):
        raise RegionError(
            f"This image (mode P) is a map of {len(np.unique(labels))} labels, and a mask is of "
            "one. Give an array that says which pixels are inside: np.asarray(image) == label."
        )
    return labels.astype(np.float32)


def _weights(array: np.ndarray, kind: str) -> np.ndarray:
    """The weights from 0 to 1; ``kind`` names the input in errors."""
    if array.dtype.kind == "b" or array.size == 0:
        return array.astype(np.float32)
    # Both are NaN where one value is, and one is infinite where one value is.
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        raise RegionError("The mask has values that are not finite.")
    if low >= 0 and high <= 1:
        return array.astype(np.float32)
    highest = (*_HIGHEST, np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else _HIGHEST
    if low >= 0 and high in highest and bool(((array == 0) | (array == high)).all()):
        return (array != 0).astype(np.float32)
    span = f"these go from {float(low):g} to {float(high):g}"
    if low < 0:
        raise RegionError(
            f"Mask values must lie in [0, 1]; {span}. Give booleans: mask > threshold."
        )
    if array.dtype.kind == "f":
        raise RegionError(
            f"Mask values must lie in [0, 1]; {span}. Give booleans (mask > {float(high) / 2:g}), "
            "or divide by what counts as wholly inside."
        )
    raise _many_levels(array, kind)


def _many_levels(array: np.ndarray, kind: str) -> RegionError:
    levels, high = len(np.unique(array)), int(array.max())
    like = ", like a photograph" if levels > 32 else ""
    name, count = "mask", f"{levels} level{'s' * (levels > 1)}"
    if kind.startswith("image"):
        name = "np.asarray(image.convert('L'))" if "RGB" in kind else "np.asarray(image)"
    whole = next((top for top in _HIGHEST if high <= top), high)
    inside = f"{name} > {high // 2}"
    if levels <= 32 and high == VOID and (array != VOID).any() and array[array != VOID].max() < 32:
        # Numbers of classes, among which 255 is what nobody has labelled.
        inside = f"{name} == label, where 255 is none of the labels"
    return RegionError(
        f"This {kind} of {array.dtype} has {count} up to {high}{like}; a mask has 0 and 1, or 0 "
        f"and 255. Say which pixels are inside: {inside}. For a soft mask give floats "
        f"from 0 to 1: {name} / {whole}."
    )
