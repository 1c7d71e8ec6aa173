"""Heat maps in colours, over an image, without matplotlib."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

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
            "Colour maps of other names are matplotlib's. Install it with: "
            "pip install 'diffusers_rdaam[plot]'"
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


def overlay(
    image: Image.Image, normalized: Column, *, opacity: float = 0.65, cmap: str | None = None
) -> Image.Image:
    """Blend the coloured map over a faded image.

    Args:
        image: any PIL image of the map's size.
        normalized: ``(height, width)``, values from 0 to 1.
        opacity: of the colours, 0 to 1.
        cmap: as in :func:`colour_map`.
    """
    base = image.convert("L").convert("RGB")
    return Image.blend(base, colourise(normalized, cmap), opacity)


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
