"""Heat maps of classes become one label for each pixel: a background channel, and the highest wins.

Attn2Mask's way (as in OVAM's experiments): every class's map is stretched to 0 to 1, the background
has what they leave, and each pixel has the label of the highest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.thresholds import levelled
from diffusers_rdaam.drawing.html import colour_legend, picture
from diffusers_rdaam.drawing.pictures import base_image
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.components import component_masks
from diffusers_rdaam.geometry.dense_crf import DenseCRF
from diffusers_rdaam.geometry.run_lengths import RunLengths, run_lengths
from diffusers_rdaam.segmentation.classes import MOST_CLASSES
from diffusers_rdaam.shapes import BinaryMask, ClassScores, Labels

BACKGROUND = 0
IGNORE = 255
# Attn2Mask's offsets, for words and for optimised tokens.
ATTN2MASK = {"word": 0.2, "token": -0.2}
# Of the largest part of a class; smaller parts are not objects.
LEAST_PART = 0.1


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A class for each pixel of an image.

    Args:
        labels: ``(height, width)``: 0 is the background, a number from 1 the place of the class in
            ``names``, 255 what is ignored.
        names: of all classes.
        image: the image, where it is known.
        probabilities: ``(1 + found, height, width)`` of the background and of the classes in
            ``found``, where labels were made of them; they sum to 1 at every pixel.
        found: the classes that were asked for in this image, by their numbers.

    Raises:
        InputError: a label is not a class, or the parts are of different sizes.
    """

    labels: Labels = field(repr=False)
    names: tuple[str, ...]
    image: Image.Image | None = field(default=None, repr=False)
    probabilities: ClassScores | None = field(default=None, repr=False)
    found: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.numel() == 0:
            shape = tuple(self.labels.shape)
            raise InputError(f"Labels are (height, width), these are {shape}.")
        known = {BACKGROUND, IGNORE, *range(1, len(self.names) + 1)}
        unknown = set(self.labels.unique().tolist()) - known
        if unknown or len(self.names) > MOST_CLASSES:
            raise InputError(
                f"Labels are 0 (background), 1 to {len(self.names)} (the classes) and 255 "
                f"(ignored); got {sorted(unknown)[:5]}, and at most {MOST_CLASSES} classes."
            )
        if self.image is not None and self.image.size[::-1] != self.size:
            raise InputError(
                f"The image is {self.image.width}x{self.image.height} pixels (width x height), "
                f"the labels are {self.size[1]}x{self.size[0]}."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.labels.shape[0], self.labels.shape[1])

    @property
    def areas(self) -> dict[str, float]:
        """The share of the image of each class that was found or has a pixel."""
        counts = torch.bincount(self.labels.flatten(), minlength=IGNORE + 1)
        numbers = sorted({*self.found, *(n for n in self.labels.unique().tolist() if n)} - {IGNORE})
        return {self.names[n - 1]: int(counts[n]) / self.labels.numel() for n in numbers}

    def number(self, name: str) -> int:
        """The label of a class.

        Raises:
            InputError: there is no such class.
        """
        if name not in self.names:
            shown = ", ".join(self.names[:20]) + (", …" if len(self.names) > 20 else "")
            raise InputError(f"{name!r} is not one of the classes. Classes: {shown}.")
        return self.names.index(name) + 1

    def mask(self, name: str) -> BinaryMask:
        """The pixels of a class as booleans ``(height, width)``.

        Raises:
            InputError: there is no such class.
        """
        return self.labels == self.number(name)

    @property
    def ignored(self) -> BinaryMask:
        """The pixels of label 255, which are neither a class nor background, as booleans."""
        return self.labels == IGNORE

    def coco(self, name: str) -> RunLengths:
        """A class in COCO's run-length form: ``{"size": [h, w], "counts": […]}``, for JSON.

        Raises:
            InputError: there is no such class.
        """
        return run_lengths(self.mask(name))

    def objects(self, *, least: float = LEAST_PART) -> Iterator[tuple[str, BinaryMask]]:
        """The connected parts of each class, largest first, as ``(class, mask)``.

        Objects of one class that touch are one part: attention does not count them.

        Args:
            least: how many pixels a part has at least, as a share of the class's largest.
        """
        for number, name in enumerate(self.names, 1):
            for mask in component_masks(self.labels == number, least=least):
                yield name, mask

    def label_image(self) -> Image.Image:
        """The labels as a palette image with the colours of PASCAL VOC: index is class."""
        return palette_image(self.labels.cpu().numpy().astype(np.uint8))

    def overlay(self, image: Any = None, *, opacity: float = 0.6) -> Image.Image:
        """The classes in colours over the image; the background stays as it is.

        Raises:
            InputError: there is no image, or it is of another size.
        """
        base = base_image(image, self.image, "segmentation").convert("RGB")
        if base.size[::-1] != self.size:
            raise InputError(
                f"The image is {base.width}x{base.height} pixels (width x height), the labels are "
                f"{self.size[1]}x{self.size[0]}."
            )
        colours = np.asarray(self.label_image().convert("RGB"), dtype=np.float32)
        inside = (self.labels != BACKGROUND).cpu().numpy()[..., None] * opacity
        pixels = np.asarray(base, dtype=np.float32) * (1 - inside) + colours * inside
        return Image.fromarray(pixels.round().astype(np.uint8))

    def with_ignored(self, margin: float) -> Segmentation:
        """The same, with 255 where the best class is by less than ``margin`` the more probable.

        Raises:
            InputError: the probabilities are not known, or the margin does not lie in [0, 1].
        """
        number = check_margin(margin)
        if self.probabilities is None:
            raise InputError("This segmentation has no probabilities, so nothing is uncertain.")
        best = self.probabilities.topk(2, dim=0).values
        unsure = (best[0] - best[1]) < number
        return replace(self, labels=self.labels.masked_fill(unsure, IGNORE))

    def __repr__(self) -> str:
        height, width = self.size
        areas = ", ".join(f"{name} {share:.1%}" for name, share in self.areas.items())
        return f"Segmentation({width}x{height} pixels: {areas or 'background alone'})"

    def _repr_html_(self) -> str:
        shown = self.label_image().convert("RGB") if self.image is None else self.overlay()
        colours = voc_palette().tolist()
        entries = []
        for name, share in self.areas.items():
            red, green, blue = colours[self.number(name)]
            entries.append(((red, green, blue), f"{name}: {share:.1%}"))
        legend = colour_legend(entries, "classes by their share of the image")
        return f"<div>{picture(shown, repr(self))}{legend}</div>"


def voc_palette() -> np.ndarray:
    """PASCAL VOC's colours: ``(256, 3)`` uint8, the bits of an index spread over the channels."""
    numbers = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for shift in range(7, -1, -1):
        for channel in range(3):
            palette[:, channel] |= (((numbers >> channel) & 1) << shift).astype(np.uint8)
        numbers = numbers >> 3
    return palette


def palette_image(numbers: np.ndarray) -> Image.Image:
    """Numbers ``(height, width)`` uint8 as an image with the colours of PASCAL VOC."""
    height, width = numbers.shape
    labels = Image.frombytes("P", (width, height), np.ascontiguousarray(numbers).tobytes())
    labels.putpalette(voc_palette().tobytes())
    return labels


def label_map(
    heat_maps: Mapping[str, HeatMap],
    *,
    names: Sequence[str] | None = None,
    background: float | None = None,
    crf: DenseCRF | None = None,
    image: Any = None,
) -> Segmentation:
    """A label for each pixel, from a heat map of each class.

    Args:
        heat_maps: by class, all of one size.
        names: all classes in order, those without a map too; those of the maps if not given.
        background: Attn2Mask's beta: the background is ``1 - highest - beta`` of maps stretched
            to 0 to 1, 0.2 for words and -0.2 for optimised tokens in the paper. If not given, a
            map reaches the background's level where it reaches its threshold,
            ``heat_map.threshold``, which is right for each kind of map.
        crf: refines the probabilities of background and classes by the image.
        image: in place of the heat maps' image.

    Raises:
        InputError: there is no map, sizes differ, a class is unknown, or a CRF has no image.
        CRFExtraError: a CRF was given, and pydensecrf is not installed.
    """
    if not heat_maps:
        raise InputError("There is no heat map. Give one for each class: {'cat': heat_map}.")
    order = tuple(heat_maps) if names is None else tuple(names)
    unknown = [name for name in heat_maps if name not in order]
    sizes = {heat_map.size for heat_map in heat_maps.values()}
    if unknown or len(sizes) > 1:
        raise InputError(
            f"The maps are of the sizes {sorted(sizes)} (height, width), and of the classes "
            f"{', '.join(heat_maps)}. They must be of one size, and all in names=."
        )
    found = tuple(order.index(name) + 1 for name in heat_maps)
    probabilities = _probabilities(list(heat_maps.values()), background)
    first = next(iter(heat_maps.values()))
    shown = None
    if image is not None or first.image is not None:
        shown = base_image(image, first.image, "segmentation")
        shown = shown if shown.mode == "RGB" else shown.convert("RGB")
    if crf is not None:
        probabilities = crf(base_image(shown, None, "segmentation"), probabilities)
    numbers = torch.tensor([BACKGROUND, *found], device="cpu")
    labels = numbers[probabilities.argmax(dim=0)]
    return Segmentation(labels, order, shown, probabilities, found)


def _probabilities(heat_maps: Sequence[HeatMap], background: float | None) -> ClassScores:
    """Of the background and the classes, ``(1 + classes, height, width)``; they sum to 1."""
    if background is None:
        scores = torch.stack([_probability(heat_map) for heat_map in heat_maps])
        rest = 1.0 - scores.max(dim=0).values
    else:
        beta = check_background(background)
        scores = torch.stack([heat_map.normalized.float() for heat_map in heat_maps])
        rest = (1.0 - scores.max(dim=0).values - beta).clamp(min=0.0)
    together = torch.cat([rest[None], scores])
    return together / together.sum(dim=0, keepdim=True).clamp(min=1e-8)


def check_background(value: Any) -> float:
    """Attn2Mask's beta.

    Raises:
        InputError: it is not a number from -1 to 1.
    """
    beta = real_number(value)
    if beta is None or not -1.0 <= beta <= 1.0:
        raise InputError(
            f"background= is Attn2Mask's beta, from -1 to 1; got {value!r}. The background is "
            "1 - highest - beta of maps from 0 to 1."
        )
    return beta


def check_margin(value: Any) -> float:
    """The least difference of two probabilities.

    Raises:
        InputError: it is not a number from 0 to 1.
    """
    number = real_number(value)
    if number is None or not 0.0 <= number <= 1.0:
        raise InputError(f"A margin between probabilities lies in [0, 1]; got {value!r}.")
    return number


def _probability(heat_map: HeatMap) -> torch.Tensor:
    """The map from 0 to 1, bent so that its threshold is at one half."""
    return levelled(heat_map.normalized.float(), heat_map.threshold)
