"""Masks in COCO's run-length form: column by column, runs of 0 first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.geometry.run_lengths import run_lengths


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
