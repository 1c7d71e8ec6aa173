"""Heat maps in colours, over an image, without matplotlib."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from diffusers_rdaam.argument_checks import check_share
from diffusers_rdaam.errors import InputError, PlotExtraError
from diffusers_rdaam.shapes import Column
from diffusers_rdaam.suggestions import nearest

# Dark violet over red and orange to pale yellow: lightness rises all the way, so that the map reads
# the same in grey and for colour-blind eyes.
_STOPS = (
    (18, 9, 60),
    (95, 20, 120),
    (175, 45, 105),
    (235, 95, 55),
    (250, 170, 40),
    (252, 250, 175),
)

FARTHEST = 100_000.0
# How much of the image the highest value covers; less would leave its colour unclear.
OPACITY = 0.8


@lru_cache(maxsize=1)
def colour_table() -> np.ndarray:
    """256 RGB colours, ``(256, 3)`` uint8, from low to high. Shared: do not write to it."""
    positions = np.linspace(0.0, 1.0, len(_STOPS))
    levels = np.linspace(0.0, 1.0, 256)
    stops = np.asarray(_STOPS, dtype=np.float64)
    channels = [np.interp(levels, positions, stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def colour_map(cmap: str | None) -> np.ndarray:
    """256 RGB colours, ``(256, 3)`` uint8: the package's, or those of a colour map of matplotlib.

    Raises:
        PlotExtraError: matplotlib is not installed.
        InputError: matplotlib has no colour map of that name.
    """
    if cmap is None:
        return colour_table()
    try:
        from matplotlib import colormaps
    except ImportError:
        raise PlotExtraError(
            "Colour maps of other names need matplotlib. Install it with: "
            'pip install "diffusers_rdaam[plot]"'
        ) from None
    if cmap not in colormaps:
        close = nearest(cmap, colormaps)
        hint = "" if close is None else f" Did you mean {close!r}?"
        raise InputError(
            f"{cmap!r} is not a colour map.{hint} Colour maps: list(matplotlib.colormaps)."
        )
    return np.asarray(colormaps[cmap](np.arange(256) / 255.0, bytes=True)[:, :3])


def colourise(normalized: Column, cmap: str | None = None) -> Image.Image:
    """A map with values from 0 to 1 as a coloured picture."""
    levels = (normalized.clamp(0.0, 1.0) * 255.0).round().byte().numpy()
    return Image.fromarray(colour_map(cmap)[levels])


def opacities(normalized: Column, opacity: float = OPACITY) -> np.ndarray:
    """The opacity of each pixel's colour, ``(height, width)`` from 0 to ``opacity``.

    The opacity rises with the value, so that the image keeps its colours where the map is weak.
    """
    return opacity * normalized.clamp(0.0, 1.0).numpy()


def overlay(
    image: Image.Image, normalized: Column, *, opacity: float = OPACITY, cmap: str | None = None
) -> Image.Image:
    """Blend the coloured map into the image, more of it where its values are higher.

    Args:
        image: any PIL image of the map's size.
        normalized: ``(height, width)``, values from 0 to 1.
        opacity: of the highest value, 0 to 1; a value of 0 leaves the image as it is.
        cmap: as in :func:`colour_map`.
    """
    base = np.asarray(image.convert("RGB"), dtype=np.float32)
    colours = np.asarray(colourise(normalized, cmap), dtype=np.float32)
    share = opacities(normalized, opacity)[..., None].astype(np.float32)
    return Image.fromarray((base + (colours - base) * share).round().astype(np.uint8))


def scale_colours(cmap: str | None = None, *, opacity: float | None = OPACITY) -> np.ndarray:
    """256 RGB colours for a scale, ``(256, 3)`` uint8, from low to high.

    Args:
        cmap: as in :func:`colour_map`.
        opacity: of the overlay that the scale is for; its colours are then shown over white. None
            for a map without an image.
    """
    colours = colour_map(cmap)
    if opacity is None:
        return colours
    share = np.linspace(0.0, opacity, 256)[:, None]
    return (255.0 + (colours - 255.0) * share).round().astype(np.uint8)


def check_opacity(opacity: Any) -> float:
    """The opacity as a float.

    Raises:
        InputError: it is not a number in [0, 1].
    """
    return check_share(opacity, "An opacity")


def outline(image: Image.Image, edges: list[tuple[float, float]]) -> Image.Image:
    """The image with a closed outline, dark with a light rim, readable on any ground."""
    picture = image.convert("RGB").copy()
    draw = ImageDraw.Draw(picture)
    # Farther corners look the same, and a line takes time by its length.
    closed = [
        (min(max(x, -FARTHEST), FARTHEST), min(max(y, -FARTHEST), FARTHEST)) for x, y in edges
    ]
    closed.append(closed[0])
    draw.line(closed, fill=(255, 255, 255), width=3)
    draw.line(closed, fill=(20, 20, 20), width=1)
    return picture
