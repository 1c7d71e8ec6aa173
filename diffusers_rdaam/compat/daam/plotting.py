"""DAAM's pictures of a map over its image, in matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.drawing.figure import new_figure
from diffusers_rdaam.errors import InputError, PlotExtraError
from diffusers_rdaam.files.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FONT_SIZE = 24


def plot_overlay_heat_map(
    im: Image.Image | np.ndarray,
    heat_map: torch.Tensor,
    word: str | None = None,
    out_file: str | Path | None = None,
    crop: int | None = None,
    color_normalize: bool = True,
    ax: Axes | None = None,
) -> None:
    """Draw ``map * jet(map) + (1 - map) * image``.

    Args:
        im: an image, or an array ``(height, width, 3)`` of bytes.
        heat_map: ``(height, width)`` of the image's size, from 0 to 1.
        word: a title.
        out_file: where to write the figure.
        crop: pixels to leave out at every side.
        color_normalize: stretch the colours from the map's lowest value to its highest, or leave
            them from 0 to 1.
        ax: where to draw; if not given, on pyplot's figure, which is cleared, so that
            ``pyplot.show()`` shows it.

    Raises:
        InputError: the map is not of the image's size, or the crop leaves nothing.
        PlotExtraError: matplotlib is not installed.
    """
    heat, pixels = heat_map.detach().float().cpu().squeeze(), _pixels(im)
    if tuple(heat.shape) != pixels.shape[:2]:
        raise InputError(
            f"The heat map is {tuple(heat.shape)}, the image {pixels.shape[:2]} (height, width). "
            "Use word_heat_map.expand_as(image)."
        )
    if crop is not None:
        if not 0 < 2 * crop < min(heat.shape):
            raise InputError(f"crop={crop} leaves nothing of {tuple(heat.shape)} (height, width).")
        heat, pixels = heat[crop:-crop, crop:-crop], pixels[crop:-crop, crop:-crop]
    axes: Any = _pyplot_axes() if ax is None else ax
    draw(axes, pixels, heat, color_normalize=color_normalize)
    if word is not None:
        size = {"fontsize": _FONT_SIZE} if ax is None else {}
        axes.set_title(word, parse_math=False, **size)
    if out_file is not None:
        axes.figure.savefig(out_file)


def write_overlay(
    im: Image.Image,
    heat_map: torch.Tensor,
    word: str,
    out_file: Path,
    *,
    color_normalize: bool = True,
    crop: int | None = None,
) -> None:
    """:func:`plot_overlay_heat_map` to a PNG file alone, without pyplot."""
    figure = new_figure()
    plot_overlay_heat_map(im, heat_map, word, None, crop, color_normalize, figure.subplots())
    with replacing(out_file, "picture") as file:
        figure.savefig(file, format="png")


def plot_mask_heat_map(
    im: Image.Image | np.ndarray, heat_map: torch.Tensor, threshold: float = 0.4
) -> None:
    """Draw the image where the map is over a threshold, black elsewhere, on pyplot's axes."""
    mask = heat_map.detach().float().cpu().squeeze() > threshold
    pyplot().imshow(_pixels(im) * mask.numpy()[..., None])


def draw(axes: Any, pixels: np.ndarray, heat: torch.Tensor, *, color_normalize: bool) -> None:
    """The map in colours, and over it the image, the more transparent the higher the map."""
    shown = heat.clamp(0.0, 1.0).numpy()
    limits = {} if color_normalize else {"vmin": 0.0, "vmax": 1.0}
    axes.imshow(heat.numpy() if color_normalize else shown, cmap="jet", **limits)
    axes.imshow(np.concatenate([pixels, 1.0 - shown[..., None]], axis=-1))


def image_size(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Height and width."""
    if isinstance(image, Image.Image):
        return (image.height, image.width)
    return (image.shape[0], image.shape[1])


def _pixels(im: Image.Image | np.ndarray) -> np.ndarray:
    """``(height, width, 3)`` from 0 to 1."""
    image = im if isinstance(im, Image.Image) else Image.fromarray(np.asarray(im))
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0


def pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise PlotExtraError(
            'Figures need matplotlib. Install it with: pip install "diffusers_rdaam[plot]"'
        ) from None
    return pyplot


def _pyplot_axes() -> Any:
    figure = pyplot().gcf()
    figure.clear()
    return figure.gca()
