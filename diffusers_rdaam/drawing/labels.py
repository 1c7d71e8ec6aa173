"""Label maps in colours."""

from __future__ import annotations

import numpy as np
from PIL import Image

from diffusers_rdaam.shapes import Labels

# Neighbours in number are far apart in hue and lightness; more labels repeat them.
_COLOURS = (
    (222, 222, 214),
    (214, 69, 80),
    (52, 120, 186),
    (244, 185, 66),
    (38, 140, 98),
    (132, 78, 163),
    (240, 128, 60),
    (96, 190, 205),
    (120, 72, 44),
    (233, 150, 190),
    (92, 108, 30),
    (40, 44, 92),
)


def label_colour(label: int) -> tuple[int, int, int]:
    """The red, green and blue (0 to 255) of a label."""
    return _COLOURS[label % len(_COLOURS)]


def colour_labels(labels: Labels) -> Image.Image:
    """Each label of ``(height, width)`` in a colour."""
    table = np.asarray(_COLOURS, dtype=np.uint8)
    return Image.fromarray(table[labels.numpy() % len(table)])
