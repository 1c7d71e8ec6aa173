"""Masks in COCO's run-length form."""

from __future__ import annotations

from typing import TypedDict

import torch

from diffusers_rdaam.shapes import BinaryMask


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
