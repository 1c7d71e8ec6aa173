"""Segments: the image cut into parts that attend to the same, without any words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.attribution.self_attention.diffusion import diffuse
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.float32_products import multiply
from diffusers_rdaam.geometry.checks import check_pixel
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.geometry.run_lengths import RunLengths, run_lengths
from diffusers_rdaam.shapes import Labels, Weights

if TYPE_CHECKING:
    from diffusers_rdaam.drawing.pictures import ImageLike

# Of the segments' colours in overlays.
OPACITY = 0.5
# Segments that a notebook's legend lists.
LEGEND = 12
# Points along each side of the image that are spread; as many as positions on small grids.
POINTS = 16
# Cosine of two maps that are of one segment.
ALIKE = 0.8


@dataclass(frozen=True, eq=False)
class Segments:
    """One label for each pixel; 0 has the largest area.

    ``attribution.region(segments.mask(1))`` has the words of a segment.

    Args:
        labels: ``(height, width)``, whole numbers from 0.
        image: the image, where the attribution has one.
    """

    labels: Labels = field(repr=False)
    image: Image.Image | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.labels.shape[0], self.labels.shape[1])

    @property
    def areas(self) -> list[float]:
        """Each segment's share of the image."""
        counts = torch.bincount(self.labels.flatten(), minlength=len(self))
        return (counts.double() / self.labels.numel()).float().tolist()

    def at(self, x: int, y: int) -> int:
        """The label of a pixel.

        Raises:
            RegionError: the pixel lies outside the image.
        """
        check_pixel(x, y, self.size)
        return int(self.labels[y, x])

    def mask(self, label: int) -> Mask:
        """A segment as a region.

        Raises:
            InputError: there is no such label.
        """
        if label not in range(len(self)):
            raise InputError(
                f"There are {len(self)} segments, numbered from 0; there is no {label!r}."
            )
        return Mask((self.labels == label).float())

    def coco(self, label: int) -> RunLengths:
        """A segment in COCO's run-length form: ``{"size": [h, w], "counts": […]}``, for JSON.

        Raises:
            InputError: there is no such label.
        """
        return run_lengths(self.mask(label).weights > 0.5)

    def label_image(self) -> Image.Image:
        """The labels themselves as an image in grey: 8 bits a pixel, 16 where there are over 256.

        PNG files of it are what data sets of segments have.
        """
        kind = np.uint8 if len(self) <= 256 else np.uint16
        return Image.fromarray(self.labels.numpy().astype(kind))

    def picture(self) -> Image.Image:
        """Every segment in a colour of its own."""
        from diffusers_rdaam.drawing.labels import colour_labels

        return colour_labels(self.labels)

    def overlay(
        self,
        image: ImageLike = None,
        *,
        opacity: float = OPACITY,
        alpha: float | None = None,
    ) -> Image.Image:
        """The segments' colours over the image, which keeps its own colours below them.

        Args:
            image: a PIL image, an array, or the path of a file; the attribution's image if not
                given.
            opacity: of the segments' colours, 0 to 1.
            alpha: matplotlib's name for the opacity.

        Raises:
            InputError: there is no image, or the opacity is not in [0, 1].
        """
        from diffusers_rdaam.drawing.overlay import check_opacity
        from diffusers_rdaam.drawing.pictures import base_image

        number = check_opacity(opacity if alpha is None else alpha)
        base = base_image(image, self.image, "segments")
        colours = self.picture().resize(base.size, Image.Resampling.NEAREST)
        return Image.blend(base.convert("RGB"), colours, number)

    def _repr_html_(self) -> str:
        from diffusers_rdaam.drawing.html import colour_legend, picture
        from diffusers_rdaam.drawing.labels import label_colour

        shown = self.picture() if self.image is None else self.overlay()
        entries = [
            (label_colour(label), f"{label}: {area:.1%}")
            for label, area in enumerate(self.areas[:LEGEND])
        ]
        more = len(self) - len(entries)
        rest = f", {more} smaller ones are not listed" if more > 0 else ""
        about = f"segments by their share of the image{rest}"
        return f"<div>{picture(shown, repr(self))}{colour_legend(entries, about)}</div>"

    def __repr__(self) -> str:
        height, width = self.size
        areas = ", ".join(f"{area:.0%}" for area in self.areas[:8])
        more = ", …" if len(self) > 8 else ""
        return f"Segments({len(self)} of {width}x{height} pixels: {areas}{more})"


@in_full_precision
def segment(grid: SelfGrid, *, iterations: int, threshold: float) -> Weights:
    """A map for each segment, ``(segments, positions)``, each with maximum 1.

    The attention to points all over the grid is spread; maps that end alike are one segment. First
    comes the map that most others are like.
    """
    maps = diffuse(grid, _points(grid.size), iterations=iterations, threshold=threshold)
    unit = maps / maps.norm(dim=1, keepdim=True).clamp(min=1e-30)
    alike = multiply(unit, unit.T) >= ALIKE
    left = torch.ones(len(maps), dtype=torch.bool, device=maps.device)
    found = []
    while bool(left.any()):
        votes = (alike & left).sum(dim=1).masked_fill(~left, -1)
        leader = int(votes.argmax())
        # A map of zeros is not even like itself.
        members = alike[leader] & left
        members[leader] = True
        found.append(maps[members].mean(dim=0))
        left &= ~members
    result = torch.stack(found)
    return result / result.amax(dim=1, keepdim=True).clamp(min=1e-30)


def label(maps: Weights, grid: tuple[int, int], size: tuple[int, int]) -> Labels:
    """Each pixel's segment: whose map is highest there; numbered by area.

    Args:
        maps: of each segment.
        grid, size: height and width of the grid and of the image.
    """
    highest = torch.full(size, -torch.inf, dtype=torch.float32, device="cpu")
    labels = torch.zeros(size, dtype=torch.int64, device="cpu")
    for index, cells in enumerate(maps):
        # One at a time: there may be hundreds of maps, and images are large.
        values = enlarge(cells.view(grid), *size)
        higher = values > highest
        highest[higher], labels[higher] = values[higher], index
    counts = torch.bincount(labels.flatten(), minlength=len(maps))
    order = counts.argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    return ranks[labels]


@in_full_precision
def _points(size: tuple[int, int]) -> Weights:
    """``(points, positions)``: each point is a patch of the grid, and all of them cover it."""
    sides = []
    for length in size:
        count = min(length, POINTS)
        owner = torch.arange(length, device="cpu") * count // length
        sides.append(torch.nn.functional.one_hot(owner, count).float().T)
    patches = torch.einsum("ay,bx->abyx", *sides).flatten(2).flatten(0, 1)
    return patches / patches.sum(dim=1, keepdim=True)
