"""The saliency figure: an image, what counts in it, and both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffusers_rdaam.drawing.figure import new_figure
from diffusers_rdaam.drawing.overlay import colourise, overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from diffusers_rdaam.shapes import Column


def saliency_figure(
    image: Any, values: Column, title: str, edges: list[tuple[float, float]]
) -> Figure:
    """Three panels: the image with ``edges`` outlined, the values in colours, and one over the
    other.

    Args:
        image: a PIL image.
        values: ``(height, width)``, from 0 to 1.
        title: any text.
        edges: of a mask in the image; none if empty.
    """
    figure = new_figure(figsize=(9.6, 3.4))
    figure.suptitle(title, parse_math=False)
    panels = {
        "input image": image.convert("RGB"),
        "saliency": colourise(values),
        "both": overlay(image, values),
    }
    places = figure.subplots(1, len(panels))
    for axes, (name, picture) in zip(places, panels.items(), strict=True):
        axes.imshow(np.asarray(picture))
        axes.set_title(name)
        axes.set_axis_off()
    if edges:
        closed = np.asarray([*edges, edges[0]])
        places[0].plot(closed[:, 0] - 0.5, closed[:, 1] - 0.5, color="white", linewidth=3)
        places[0].plot(closed[:, 0] - 0.5, closed[:, 1] - 0.5, color="black", linewidth=1)
    return figure
