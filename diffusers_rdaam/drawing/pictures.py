"""A picture from what a user has at hand: an image, an array or tensor, or the path of a file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.errors import InputError

ImageLike = Any  # what as_picture takes
_FORMS = (
    "Give a PIL image, the path of an image file, or an array (height, width, 3) of uint8 or of "
    "floats from 0 to 1."
)


def as_picture(value: ImageLike) -> Image.Image:
    """A PIL image.

    Args:
        value: a PIL image, which stays as it is; a path; an array or tensor ``(height, width)``,
            ``(height, width, channels)`` or ``(channels, height, width)``, of uint8 or of floats
            from 0 to 1.

    Raises:
        InputError: it is none of these, or the file cannot be read.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (str, PathLike)):
        return _read(Path(value))
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return Image.fromarray(_levels(value))
    raise InputError(f"A {type(value).__name__} is not an image. {_FORMS}")


def base_image(value: ImageLike, default: Image.Image | None, what: str) -> Image.Image:
    """The image that an overlay is drawn on: ``value``, or ``default`` where that is None.

    Args:
        value: as in :func:`as_picture`.
        default: the image that the drawn thing has, if any.
        what: the drawn thing, for errors: ``"heat map"``.

    Raises:
        InputError: there is neither.
    """
    if value is not None:
        return as_picture(value)
    if default is None:
        raise InputError(f"There is no image to lay the {what} over. Pass image=…")
    return default


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}. {_FORMS}") from error


def _levels(value: np.ndarray | torch.Tensor) -> np.ndarray:
    shape = tuple(value.shape)
    if isinstance(value, torch.Tensor):
        try:
            tensor = value.detach().cpu()
            array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (RuntimeError, TypeError, NotImplementedError):
            raise InputError(f"This tensor of shape {shape} holds no numbers. {_FORMS}") from None
    else:
        array = value
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise InputError(f"An array of shape {shape} is not an image. {_FORMS}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f" or not bool(((array >= 0.0) & (array <= 1.0)).all()):
        raise InputError(
            f"An array of {array.dtype} is an image where all values are floats from 0 to 1. "
            f"{_FORMS}"
        )
    return (array * 255.0).round().astype(np.uint8)
