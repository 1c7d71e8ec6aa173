"""Ground truth for images of the embedded model: which coloured shapes are really there.

Colours are separated and objects do not touch, so colour segmentation finds the objects of a
*generated* image; that is what tests and benchmarks measure attributions against.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from diffusers_rdaam.demo.world import COLOURS, SHAPES, coverage

MAX_COLOUR_DISTANCE = 90.0
MIN_BLOB_SHARE = 0.003
MIN_PRESENT_SHARE = 0.01
MAX_STRAY_SHARE = 0.005
MIN_SHAPE_FIT = 0.75


@dataclass(frozen=True, eq=False)
class Blob:
    """A connected area of one colour.

    Args:
        colour, shape: their names; the shape is the one whose template fits best.
        fit: intersection over union with that template.
        mask: ``(height, width)`` booleans.
    """

    colour: str
    shape: str
    fit: float
    mask: np.ndarray

    @property
    def name(self) -> str:
        """``"red circle"``; only the colour where no template fits well."""
        return f"{self.colour} {self.shape}" if self.fit >= MIN_SHAPE_FIT else self.colour


@dataclass(frozen=True)
class Verdict:
    """What a generated image got right of a two-object prompt; see :func:`judge`."""

    both_colours: bool
    both_objects: bool
    no_stray: bool
    two_blobs: bool

    @property
    def perfect(self) -> bool:
        """All of it together."""
        return self.both_colours and self.both_objects and self.no_stray and self.two_blobs


def colour_masks(image: Any) -> dict[str, np.ndarray]:
    """Each colour's pixels: those nearest to it and within 90 of it in RGB.

    Args:
        image: PIL image or ``(height, width, 3)`` array, 0-255.
    """
    pixels = np.asarray(image, dtype=np.float32)[..., :3]
    palette = np.asarray(list(COLOURS.values()), dtype=np.float32)
    distance = np.linalg.norm(pixels[:, :, None, :] - palette, axis=-1)
    nearest, close = distance.argmin(axis=-1), distance.min(axis=-1) < MAX_COLOUR_DISTANCE
    return {name: (nearest == index) & close for index, name in enumerate(COLOURS)}


def find_blobs(image: Any) -> list[Blob]:
    """All connected areas of one colour of at least 0.3 % of the image, largest first."""
    from scipy import ndimage

    blobs = []
    for colour, mask in colour_masks(image).items():
        labels, count = ndimage.label(mask)
        for label in range(1, count + 1):
            area = labels == label
            if area.mean() >= MIN_BLOB_SHARE:
                shape, fit = classify(area)
                blobs.append(Blob(colour, shape, fit, area))
    return sorted(blobs, key=lambda blob: -int(blob.mask.sum()))


@lru_cache(maxsize=1024)
def _template(shape: str, height: int, width: int) -> np.ndarray:
    """The shape filling a ``height`` x ``width`` box, as booleans."""
    fine = 129
    y, x = np.mgrid[0:fine, 0:fine] - fine / 2.0 + 0.5
    inside = coverage(shape, x, y, 40.0) > 0.5
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    at_y = ((np.arange(height) + 0.5) * inside.shape[0] / height).astype(int)
    at_x = ((np.arange(width) + 0.5) * inside.shape[1] / width).astype(int)
    return inside[np.ix_(at_y, at_x)]


def classify(mask: np.ndarray) -> tuple[str, float]:
    """The shape whose template, stretched to the blob's box, fits best; and how well (IoU).

    Boxes more than 1.35 times as long as high (or the reverse) fit nothing: they are two shapes
    grown together or half a shape.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    fits = {}
    for shape in SHAPES:
        template = _template(shape, *cut.shape)
        fits[shape] = float((cut & template).sum() / (cut | template).sum())
    best = max(fits, key=fits.__getitem__)
    long = max(cut.shape) / min(cut.shape) > 1.35
    return best, 0.0 if long else fits[best]


def judge(image: Any, names: tuple[str, str]) -> Verdict:
    """Whether an image shows two named objects, and nothing else.

    * both colours: each covers at least 1 % of the image;
    * both objects: for each, the largest blob of its colour has its shape (fit at least 0.75);
    * no stray colour: no other colour covers over 0.5 %;
    * two blobs: exactly two connected areas of at least 0.3 %.
    """
    shares = {colour: mask.mean() for colour, mask in colour_masks(image).items()}
    blobs = find_blobs(image)
    wanted = [name.split()[0] for name in names]
    largest = {colour: next((b for b in blobs if b.colour == colour), None) for colour in wanted}
    return Verdict(
        both_colours=all(shares[colour] >= MIN_PRESENT_SHARE for colour in wanted),
        both_objects=all(
            (blob := largest[name.split()[0]]) is not None and blob.name == name for name in names
        ),
        no_stray=all(
            share <= MAX_STRAY_SHARE for colour, share in shares.items() if colour not in wanted
        ),
        two_blobs=len(blobs) == 2,
    )
