"""Masks from arrays, tensors and images, and every array that is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.region import Box, Mask, as_region

SIZE = (64, 96)
pytestmark = pytest.mark.usefixtures("types_unchecked")


def inside() -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[10:20, 70:90] = True
    return mask


def readonly(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "convert",
    [
        lambda mask: mask,
        lambda mask: mask.astype(np.float64),
        lambda mask: mask.astype(np.float16),
        lambda mask: mask.astype(np.uint8),
        lambda mask: mask.astype(np.int64),
        lambda mask: mask.astype(np.uint16),
        readonly,
        lambda mask: np.asfortranarray(mask),
        lambda mask: np.ascontiguousarray(mask[::-1])[::-1],
        lambda mask: np.ascontiguousarray(mask[:, ::-1])[:, ::-1],
        torch.from_numpy,
        lambda mask: torch.from_numpy(mask).float().requires_grad_(),
        lambda mask: torch.from_numpy(mask).bfloat16(),
        Image.fromarray,
        lambda mask: Image.fromarray(mask).convert("L"),
        lambda mask: Image.fromarray(mask).convert("RGB"),
        lambda mask: np.asarray(Image.fromarray(mask).convert("1")),
        lambda mask: mask.tolist(),
    ],
)
def test_every_kind_of_mask_equals_the_box(convert):
    mask = Mask(convert(inside()))
    assert mask.weights.dtype == torch.float32 and not mask.weights.requires_grad
    assert torch.equal(mask.coverage(SIZE), Box(70, 10, 90, 20).coverage(SIZE))
    for one, other in zip(
        mask.grid_weights(SIZE, [(8, 12), (2, 3)]),
        Box(70, 10, 90, 20).grid_weights(SIZE, [(8, 12), (2, 3)]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_grey_counts_partly():
    mask = Mask(Image.new("L", (96, 64), 51))
    torch.testing.assert_close(mask.weights, torch.full(SIZE, 0.2))


def test_a_mask_keeps_what_it_was_made_of():
    array = inside().astype(np.float32)
    mask = Mask(array)
    array[:] = 7.0
    assert float(mask.weights.max()) == 1.0


def test_edges_are_the_box_around():
    mask = inside()
    mask[12, 3] = True
    assert Mask(mask).edges() == Box(3, 10, 90, 20).edges()


@pytest.mark.parametrize("shape", [(), (96,), (1, 64, 96), (64, 96, 3)])
def test_wrong_number_of_axes(shape):
    with pytest.raises(RegionError) as caught:
        Mask(np.ones(shape, dtype=bool))
    assert str(caught.value) == f"A mask has two axes (height, width), this has shape {shape}."


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int8"])
def test_integers_over_one(dtype):
    mask = inside().astype(dtype) * np.asarray(100, dtype)
    with pytest.raises(RegionError) as caught:
        Mask(mask)
    assert str(caught.value) == (
        f"A mask of type torch.{dtype} may hold only 0 and 1. Give booleans (mask > 0), or floats "
        "from 0 to 1."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value):
    mask = inside().astype(np.float32)
    mask[0, 0] = value
    with pytest.raises(RegionError, match=r"^The mask has values that are not finite\.$"):
        Mask(mask)


@pytest.mark.parametrize(
    ("value", "span"), [(255.0, "0 to 255"), (-0.5, "-0.5 to 1"), (1.01, "0 to 1.01")]
)
def test_beyond_zero_to_one(value, span):
    mask = inside().astype(np.float32)
    mask[0, 0] = value
    with pytest.raises(RegionError) as caught:
        Mask(mask)
    assert str(caught.value) == f"Mask values must lie in [0, 1]; these go from {span}."


@pytest.mark.parametrize(
    "mask",
    [np.zeros(SIZE, bool), np.zeros(SIZE), np.zeros((0, 96)), Image.new("L", (96, 64), 0)],
)
def test_all_zero(mask):
    with pytest.raises(RegionError, match=r"^The mask is all zero: no pixel is inside\.$"):
        Mask(mask)


@pytest.mark.parametrize(
    "value", ["abc", None, np.array([["a", "b"]]), np.array([[None, 1]]), [[1, 2], [3]], object()]
)
def test_not_an_array_of_numbers(value):
    with pytest.raises(RegionError, match=r"^A mask is an array of numbers, not ['\"]"):
        Mask(value)


def test_complex():
    with pytest.raises(
        RegionError, match=r"^A mask is boolean or of floats from 0 to 1, not torch\.complex128\.$"
    ):
        Mask(inside().astype(complex))


@pytest.mark.parametrize("shape", [(96, 64), (64, 95), (512, 512)])
def test_wrong_size(shape):
    mask = as_region(np.ones(shape, dtype=bool))
    for call in (mask.coverage, lambda size: mask.grid_weights(size, [(8, 12)])):
        with pytest.raises(RegionError) as caught:
            call(SIZE)
        assert str(caught.value) == (
            f"The mask is {shape[1]} pixels wide and {shape[0]} high, the image 96 wide and 64 "
            "high. Give a mask of the image's size."
        )


def test_outside_is_what_the_mask_leaves_out():
    mask = Mask(inside())
    assert torch.equal(mask.outside.weights, 1.0 - mask.weights)
    assert torch.equal((~mask).weights, mask.outside.weights)
    assert torch.equal((~~mask).weights, mask.weights)
    grey = Mask(Image.new("L", (96, 64), 51))
    torch.testing.assert_close((~grey).weights, torch.full(SIZE, 0.8))


def test_nothing_is_outside_of_everything():
    for call in (lambda mask: mask.outside, lambda mask: ~mask):
        with pytest.raises(
            RegionError,
            match=r"^The mask covers the whole image, so there is nothing outside of it\.$",
        ):
            call(Mask(np.ones(SIZE)))
