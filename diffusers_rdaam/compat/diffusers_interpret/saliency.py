"""Scores of the pixels of an input image, and their picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.compat.daam.plotting import pyplot
from diffusers_rdaam.explain.gradients.input_pixels import InputPixels


class SaliencyMap:
    """The pixels of the input image that count.

    Args:
        pixels: their scores, with the image and, of inpainting, the mask.
    """

    def __init__(self, pixels: InputPixels) -> None:
        self.pixels = pixels

    @property
    def image(self) -> Image.Image:
        """The input image, at the size that the model reads."""
        return self.pixels.image

    def show(
        self,
        cmap: str = "jet",
        image_weight: float = 0.5,
        tight: bool = True,
        apply_mask: bool = False,
        **subplots: Any,
    ) -> None:
        """Draw and show the image, its scores in colours, and one over the other, with pyplot.

        Args:
            cmap: of matplotlib.
            image_weight: of the image in the third panel, from 0 to 1.
            tight: whether matplotlib lays the panels out tightly.
            apply_mask: leave out what inpainting keeps.
            subplots: of ``pyplot.subplots``.

        Raises:
            PlotExtraError: matplotlib is not installed.
        """
        plt = pyplot()
        picture = np.asarray(self.image.convert("RGB"), dtype=np.float32) / 255.0
        values = self.pixels.saliency(inside_mask=apply_mask).numpy()
        colours = plt.get_cmap(cmap)(values)[..., :3]
        both = (1 - image_weight) * colours + image_weight * picture
        figure, places = plt.subplots(1, 3, **subplots)
        panels = {
            "Image": self._with_mask(picture),
            "Pixel attributions": colours,
            "Image Overlayed": both,
        }
        for axes, (name, panel) in zip(places, panels.items(), strict=True):
            axes.imshow(panel)
            axes.set_axis_off()
            axes.set_title(name)
        if tight:
            figure.tight_layout()
        plt.show()

    def _with_mask(self, picture: np.ndarray) -> np.ndarray:
        """The image with the part that is painted anew in grey."""
        if self.pixels.mask is None:
            return picture
        painted = self.pixels.mask.weights.numpy()[..., None]
        return picture * (1 - painted) + 0.5 * painted


class PixelAttributions(np.ndarray):
    """``(height, width)`` float32, the score of each pixel of the input image."""

    saliency_map: SaliencyMap | None

    def __new__(cls, pixels: InputPixels) -> PixelAttributions:
        found = np.asarray(pixels.values.numpy()).view(cls)
        found.saliency_map = SaliencyMap(pixels)
        return found

    def __array_finalize__(self, source: Any) -> None:
        self.saliency_map = getattr(source, "saliency_map", None)

    @property
    def normalized(self) -> np.ndarray:
        """The scores in percent of their sum."""
        values = np.asarray(self)
        total = float(values.sum(dtype=np.float64))
        return 100 * values / total if total else np.zeros_like(values)
