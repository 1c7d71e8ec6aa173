"""Pictures in files: what one costs is known before it is decoded; written as PNG."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from diffusers_rdaam.errors import AttributionFileError
from diffusers_rdaam.files.fields import MAX_AREA
from diffusers_rdaam.files.opening import opened
from diffusers_rdaam.files.writing import replacing


def read_picture(
    path: Path, *, formats: tuple[str, ...] | None = ("PNG",), limit: int = MAX_AREA
) -> Image.Image:
    """A picture, decoded.

    Args:
        path: of a regular file.
        formats: that are taken, by Pillow's names; None for all that it knows.
        limit: of the pixels.

    Raises:
        AttributionFileError: it is missing, cut off, of another format, or has more pixels.
    """
    kind = "an image" if formats is None else f"a {' or '.join(formats)} image"
    with opened(path, "image") as file:
        try:
            # Reads the size, and no pixel.
            with Image.open(file, formats=formats) as image:
                width, height = image.size
                if width * height <= limit:
                    image.load()
                    return image
        # A decoder raises what it likes, and Pillow warns of what is far over the limit.
        except Exception as error:
            raise AttributionFileError(f"{path} cannot be read as {kind}: {error}.") from error
    raise AttributionFileError(
        f"{path} is an image of {width} by {height} pixels, and at most {limit} are read here. "
        "Scale it down."
    )


def write_png(path: Path, image: Image.Image, noun: str = "image") -> None:
    """Write a PNG file, whole or not at all, as :func:`replacing` does.

    Raises:
        InputError: the folder does not exist or may not be written.
    """
    with replacing(path, noun) as file:
        image.save(file, format="PNG")
