"""OVAM's annotation helpers: boxes become masks by a SAM, masks of one label one mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.drawing.pictures import as_picture
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.segmentation.annotate import Segmenter
from diffusers_rdaam.segmentation.sam import SamSegmenter


def load_sam_predictor(path: str | Path) -> SamSegmenter:
    """A SAM from a folder or hub id; OVAM fetches one from a URL, unchecked.

    Raises:
        InputError: it cannot be loaded.
    """
    return SamSegmenter.from_pretrained(path)


def compute_masks(
    image: Image.Image | np.ndarray | str | Path,
    annotations: Sequence[Mapping[str, Any]],
    predictor: Segmenter,
) -> list[dict[str, Any]]:
    """The mask of each box: its annotation with ``"mask"``, ``(height, width)`` booleans.

    Args:
        image: that was annotated.
        annotations: of the box widget: ``{"x", "y", "width", "height", "label"}`` in pixels.
        predictor: a segmenter, such as of :func:`load_sam_predictor`.

    Raises:
        InputError: an annotation is not one.
        RegionError: a box lies outside the image.
    """
    picture = as_picture(image).convert("RGB")
    found = []
    for one in annotations:
        try:
            box = Box.from_xywh(one["x"], one["y"], one["width"], one["height"])
            label = str(one["label"])
        except (KeyError, TypeError) as error:
            raise InputError(
                'An annotation is {"x", "y", "width", "height", "label"} in pixels; got '
                f"{str(one)[:120]}."
            ) from error
        mask = predictor(picture, box.inside((picture.height, picture.width)), None)
        found.append({**one, "label": label, "mask": np.asarray(mask) > 0.5})
    return found


def group_mask_by_label(masks: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The masks of each label as one, ``(height, width)`` booleans."""
    grouped: dict[str, np.ndarray] = {}
    for one in masks:
        label, mask = one["label"], np.asarray(one["mask"]) > 0
        grouped[label] = mask | grouped[label] if label in grouped else mask
    return grouped


def masks_to_tensor(masks: Mapping[str, np.ndarray], labels: Sequence[str]) -> torch.Tensor:
    """The target of a token optimisation: ``(1, 1 + labels, height, width)``, background first.

    Args:
        masks: by label, of one size.
        labels: in the order of the tokens; one without a mask is empty.

    Raises:
        InputError: there is no mask, or their sizes differ.
    """
    shapes = {np.shape(mask) for mask in masks.values()}
    if len(shapes) != 1:
        raise InputError(f"Masks are of one size; got {sorted(shapes)}.")
    empty = np.zeros(next(iter(shapes)), dtype=bool)
    listed = [np.asarray(masks.get(label, empty)) > 0 for label in labels]
    background = ~np.any([empty, *listed], axis=0)
    return torch.from_numpy(np.stack([background, *listed])).float()[None]
