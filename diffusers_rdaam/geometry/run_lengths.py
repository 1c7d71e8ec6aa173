"""Masks in COCO's run-length form."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from operator import index
from typing import Any, TypedDict

import torch

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.shapes import BinaryMask

# Of a mask that is read: 16,384 by 16,384.
MAX_PIXELS = 2**28
_FORM = (
    "A mask in COCO's run-length form is {'size': [height, width], 'counts': [whole numbers]}, "
    "uncompressed"
)


class RunLengths(TypedDict):
    """A mask as COCO's annotations have it, uncompressed.

    ``pycocotools.mask.frPyObjects(mask, *mask["size"])`` compresses it.
    """

    size: list[int]
    """Height and width in pixels."""

    counts: list[int]
    """Lengths of the runs of 0 and 1 by turns, down each column, from the left; 0 comes first."""


def run_lengths(mask: BinaryMask) -> RunLengths:
    """A mask ``(height, width)`` in run-length form: whole numbers, ready for JSON."""
    pixels = mask.cpu().T.flatten()
    changes = (pixels[1:] != pixels[:-1]).nonzero()[:, 0] + 1
    edges = torch.cat([changes.new_zeros(1), changes, changes.new_full((1,), len(pixels))])
    counts = edges.diff().tolist()
    # The first run is of 0, and empty where the first pixel is 1.
    first = [0] if bool(pixels[0]) else []
    return {"size": list(mask.shape), "counts": first + counts}


def mask_of_run_lengths(form: Mapping[str, Any]) -> BinaryMask:
    """The mask ``(height, width)`` of a run-length form: the inverse of :func:`run_lengths`.

    Raises:
        RegionError: the form lacks a part or is compressed, or its counts do not fill its size.
    """
    try:
        height, width = (index(side) for side in form["size"])
        counts = [index(count) for count in form["counts"]]
    except (KeyError, TypeError, ValueError):
        raise RegionError(
            f"{_FORM}; got {str(form)[:80]}. pycocotools.mask.decode opens a compressed one."
        ) from None
    if min(height, width, *counts, 1) < 0 or not 0 < height * width <= MAX_PIXELS:
        raise RegionError(f"{_FORM}; got the size {(height, width)} or a count below 0.")
    if sum(counts) != height * width:
        raise RegionError(
            f"The counts of this mask sum to {sum(counts)}, and its size {(height, width)} "
            f"(height, width) has {height * width} pixels; they must be the same."
        )
    pixels = torch.zeros(height * width, dtype=torch.bool, device="cpu")
    edges = [0, *accumulate(counts)]
    for start, stop in zip(edges[1::2], edges[2::2], strict=False):
        pixels[start:stop] = True
    return pixels.view(width, height).T.contiguous()
