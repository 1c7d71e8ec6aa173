"""InputPixels: which pixels of an input image a region of the output depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image

from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.drawing.overlay import OPACITY, overlay
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.shapes import Column

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class InputPixels:
    """A score for each pixel of the input image.

    Args:
        values: ``(height, width)`` float32, by ``method`` over red, green and blue of the image as
            the model reads it (-1 to 1).
        method: how.
        image: the input image, at the size that the model reads.
        mask: of inpainting, what was painted anew.
    """

    values: Column = field(repr=False)
    method: str
    image: Image.Image = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)

    @property
    def normalized(self) -> Column:
        """The values over their sum; all 0 where no pixel counts."""
        total = float(self.values.double().abs().sum())
        return self.values / total if total > 0.0 else torch.zeros_like(self.values)

    @property
    def heat_map(self) -> HeatMap:
        """The same as a heat map, for ``mask``, ``box``, ``mass``, ``inside`` and ``resize``."""
        return HeatMap(self.values, "input pixels", image=self.image)

    def saliency(self, *, inside_mask: bool = False) -> Column:
        """Stretched to 0 to 1 for the eye: the highest percent does not dim the rest.

        Args:
            inside_mask: leave out what inpainting keeps, which would outshine the rest.
        """
        values = self.values.clamp(min=0.0)
        if inside_mask and self.mask is not None:
            values = values * (self.mask.weights > 0.5)
        low = float(values.min())
        high = float(torch.quantile(values.flatten()[:: -(-values.numel() // 2**20)], 0.99))
        high = high if high > low else float(values.max())
        return ((values - low) / max(high - low, 1e-30)).clamp(0.0, 1.0)

    def overlay(self, *, opacity: float = OPACITY, inside_mask: bool = False) -> Image.Image:
        """The saliency in colours over the input image."""
        return overlay(self.image, self.saliency(inside_mask=inside_mask), opacity=opacity)

    def plot(self, *, inside_mask: bool = False) -> Figure:
        """A matplotlib figure: the input image, its saliency, and both (extra ``plot``)."""
        from diffusers_rdaam.drawing.saliency import saliency_figure

        edges = [] if self.mask is None else self.mask.edges()
        values = self.saliency(inside_mask=inside_mask)
        return saliency_figure(self.image, values, f"input pixels, {self.method}", edges)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import heat_scale, picture

        legend = heat_scale(0.0, 1.0, "saliency, 1 is the highest percent of pixels", image=True)
        return f"<div>{picture(self.overlay(), f'input pixels, {self.method}')}{legend}</div>"
