"""Masks in COCO's run-length form: column by column, runs of 0 first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.region import Mask, as_region
from diffusers_rdaam.geometry.run_lengths import mask_of_run_lengths, run_lengths


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([[0, 1], [1, 1], [0, 1]], [1, 1, 1, 3]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 0, 0]], [3]),
        ([[1]], [0, 1]),
        ([[1, 0, 1]], [0, 1, 1, 1]),
    ],
)
def test_by_hand(rows, counts):
    mask = torch.tensor(rows, dtype=torch.bool)
    assert run_lengths(mask) == {"size": list(mask.shape), "counts": counts}


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**49 - 1))
def test_it_is_the_mask(height, width, bits):
    pixels = [bool(bits >> i & 1) for i in range(height * width)]
    mask = torch.tensor(pixels).reshape(width, height).T
    form = run_lengths(mask)
    assert sum(form["counts"]) == height * width and 0 not in form["counts"][1:]
    values = [bool(i % 2) for i, count in enumerate(form["counts"]) for _ in range(count)]
    assert values == pixels


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**49 - 1))
def test_there_and_back(height, width, bits):
    pixels = [bool(bits >> i & 1) for i in range(height * width)]
    mask = torch.tensor(pixels).reshape(height, width)
    assert torch.equal(mask_of_run_lengths(run_lengths(mask)), mask)


def test_a_mask_is_read_and_written():
    weights = torch.zeros(4, 6)
    weights[1:3, 2:5], weights[3, 0] = 1.0, 0.4
    mask = Mask(weights)
    form = mask.coco()
    assert form == run_lengths(weights >= 0.5)
    assert torch.equal(Mask.from_coco(form).weights, (weights >= 0.5).float())
    assert torch.equal(as_region(form).coverage((4, 6)), (weights >= 0.5).float())
    assert mask.image().mode == "L" and mask.image().size == (6, 4)
    assert [mask.image().getpixel(at) for at in ((2, 1), (0, 3), (0, 0))] == [255, 102, 0]
    assert repr(mask) == "Mask(6x4 pixels, 26.7% inside)"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"size": [4, 6]}, "uncompressed; got {'size': [4, 6]}"),
        ({"size": [4, 6], "counts": "PPYo1"}, "pycocotools.mask.decode opens a compressed one"),
        ({"size": [4], "counts": [4]}, "uncompressed; got"),
        ({"size": [4, 6], "counts": [20]}, "counts of this mask sum to 20, and its size (4, 6)"),
        ({"size": [4, 6], "counts": [30, -6]}, "a count below 0"),
        ({"size": [0, 6], "counts": []}, "got the size (0, 6)"),
        ({"size": [2**20, 2**20], "counts": [2**40]}, "got the size (1048576, 1048576)"),
        ({"size": [4, 6], "counts": [24]}, "The mask is all zero"),
    ],
)
def test_forms_that_are_refused(form, text):
    with pytest.raises(RegionError) as caught:
        Mask.from_coco(form)
    assert text in str(caught.value)
