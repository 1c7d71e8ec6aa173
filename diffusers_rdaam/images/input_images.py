"""Images as a user has them, made the pixels that a pipeline takes."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.drawing.pictures import as_picture
from diffusers_rdaam.errors import ImageResizedWarning, InputError
from diffusers_rdaam.families import family_of, pixels_per_latent
from diffusers_rdaam.recording.announce import warn

# An image of so many times the pipeline's usual number of pixels is taken as it is.
_AS_IT_IS = (0.25, 2.0)
# From here on a stretched image is worth a warning; rounding an ordinary photo stays below.
_STRETCH = 0.03


def as_rgb(image: Any) -> Image.Image:
    """An image in RGB: turned as its camera says, transparent parts on white, 16 bits as 8.

    Args:
        image: as :func:`as_picture` takes it.

    Raises:
        InputError: it is not an image, or has a number that is not finite.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()
    if isinstance(image, np.ndarray) and image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError("The image has NaN or infinity among its pixels.")
    picture = ImageOps.exif_transpose(as_picture(image))
    if picture.mode.startswith("I") or picture.mode == "F":
        levels = np.asarray(picture, dtype=np.float64)
        # Up to 255 the numbers are those of an 8-bit image.
        levels = levels / 257.0 if levels.max(initial=0.0) > 255.0 else levels
        picture = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def resized(pipe: Any, images: list[Image.Image], size: Any) -> list[Image.Image]:
    """The images in one size that the pipeline takes; stretched where need be, never cropped.

    Args:
        pipe: the pipeline.
        images: in RGB.
        size: height and width; None for that of the images, rounded to what the pipeline takes.
            Images of more than twice the pipeline's usual number of pixels, or of less than a
            quarter, are scaled to that number.

    Raises:
        InputError: the pipeline does not take the size, or the images would have several.
    """
    unit = family_of(pipe).image_size(pipe, (1, 1))[0]
    if size is not None:
        sizes = {checked_size(size, unit)}
    else:
        sizes = {_rounded(pipe, image, unit) for image in images}
    if len(sizes) > 1:
        raise InputError(
            f"The images are of several sizes (height, width): {sorted(sizes)}. A run has one; "
            "give size=(height, width), or call once for each image."
        )
    height, width = sizes.pop()
    for image in images:
        _report_stretch(image, height, width)
    whole = (width, height)
    return [
        one if one.size == whole else one.resize(whole, Image.Resampling.LANCZOS) for one in images
    ]


def checked_size(size: Any, unit: int) -> tuple[int, int]:
    """Height and width as whole multiples of what a pipeline's images are made of.

    Raises:
        InputError: they are not.
    """
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise InputError(f"size= is (height, width) in pixels; got {size!r}.")
    height, width = (check_count(side, "A side of size=") for side in size)
    if height % unit or width % unit:
        near = tuple(max(unit, round(side / unit) * unit) for side in (height, width))
        raise InputError(
            f"size= has sides that are multiples of {unit} pixels for this pipeline; got "
            f"{(height, width)} (height, width). The nearest is {near}."
        )
    return height, width


def _rounded(pipe: Any, image: Image.Image, unit: int) -> tuple[int, int]:
    usual = usual_pixels(pipe)
    pixels = image.width * image.height
    scale = 1.0
    least, most = _AS_IT_IS
    if type(pipe).__name__.startswith("HiDream"):
        # The sequence of its image has room for no more.
        most = 1.0
    if usual is not None and not least * usual <= pixels <= most * usual:
        scale = math.sqrt(usual / pixels)
    ratio = math.log(image.width / image.height)
    limit = math.inf if usual is None else most * usual
    sides = list(
        itertools.product(
            _multiples(image.height * scale, unit), _multiples(image.width * scale, unit)
        )
    )
    # A ribbon is over the limit with the least of sides.
    small = [one for one in sides if one[0] * one[1] <= limit] or [min(sides)]
    # Of the sides above and below those of least stretch, and of these the nearest in size.
    return min(
        small,
        key=lambda one: (
            round(abs(math.log(one[1] / one[0]) - ratio), 6),
            abs(one[0] * one[1] - pixels * scale**2),
        ),
    )


def _multiples(side: float, unit: int) -> list[int]:
    """The multiples of a unit next to a length, at least one unit."""
    below = max(1, math.floor(side / unit + 1e-9))
    above = max(1, math.ceil(side / unit - 1e-9))
    return sorted({below * unit, above * unit})


def usual_pixels(pipe: Any) -> float | None:
    """How many pixels the pipeline's images have by default; None where it is not known."""
    parameter = inspect.signature(type(pipe).__call__).parameters.get("height")
    default = None if parameter is None else parameter.default
    if isinstance(default, int):
        return float(default**2)
    scale = pixels_per_latent(pipe)
    side = getattr(pipe, "default_sample_size", None)
    if hasattr(pipe, "get_default_resolution"):
        # PRX has its default in pixels.
        return float(pipe.get_default_resolution() ** 2)
    if not isinstance(side, int):
        side = getattr(family_of(pipe).denoiser(pipe).config, "sample_size", None)
    if isinstance(side, (tuple, list)) and len(side) == 2:
        return float(side[0] * side[1] * scale**2)
    return float((side * scale) ** 2) if isinstance(side, int) else None


def _report_stretch(image: Image.Image, height: int, width: int) -> None:
    """Say where the ratio of the sides has changed."""
    stretch = (width / height) / (image.width / image.height)
    if abs(math.log(stretch)) > _STRETCH:
        warn(
            f"The image of {image.width} by {image.height} pixels (width by height) was stretched "
            f"to {width} by {height}, which the pipeline takes: its sides are in another ratio "
            f"({stretch:.2f} times as wide). Regions are in pixels of the stretched image. To keep "
            "the ratio, cut the image, or give size=(height, width).",
            ImageResizedWarning,
        )


def as_pixels(images: list[Image.Image]) -> Tensor:
    """``(images, 3, height, width)`` from -1 to 1."""
    levels = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(levels).movedim(-1, 1) / 127.5 - 1.0
