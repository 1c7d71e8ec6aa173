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


def test_floats_count_partly():
    mask = Mask(np.full(SIZE, 0.2))
    torch.testing.assert_close(mask.weights, torch.full(SIZE, 0.2))


def rgba(mask: np.ndarray, alpha: int = 255) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGBA")
    image.putalpha(alpha)
    return image


def palette(colours: list[int], mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8)).copy()
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "convert",
    [
        lambda mask: Image.fromarray(mask.astype(np.uint8)),
        lambda mask: Image.fromarray(mask.astype(np.uint8) * 255),
        lambda mask: Image.fromarray(mask.astype(np.uint8) * 255).convert("P"),
        lambda mask: palette([0, 0, 0, 128, 0, 0], mask),
        lambda mask: palette([255, 255, 255, 0, 0, 0], ~mask),
        lambda mask: palette([0, 0, 0, 255, 255, 255], mask),
        lambda mask: Image.fromarray(mask.astype(np.int32)),
        lambda mask: Image.fromarray(mask.astype(np.int32) * 255),
        lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
        lambda mask: Image.fromarray(mask.astype(np.uint16)),
        lambda mask: Image.fromarray(mask.astype(np.float32)),
        lambda mask: Image.fromarray(mask.astype(np.float32) * 255),
        lambda mask: Image.fromarray(mask.astype(np.uint8)).convert("RGB"),
        rgba,
        lambda mask: rgba(mask).convert("LA"),
        lambda mask: Image.fromarray(np.stack([mask.astype(np.uint8) * 255] * 4, axis=-1)),
        lambda mask: mask.astype(np.uint8) * 255,
        lambda mask: mask.astype(np.uint16) * 65535,
        lambda mask: mask.astype(">u2"),
        lambda mask: mask.astype(np.float32) * 255,
        lambda mask: mask.astype(np.int64) * 255,
        lambda mask: mask[None],
        lambda mask: mask[..., None],
        lambda mask: mask[None, None].astype(np.uint8) * 255,
        lambda mask: mask[None, ..., None],
        lambda mask: np.stack([mask] * 3, axis=-1),
        lambda mask: np.stack([mask.astype(np.float32)] * 3),
        lambda mask: torch.from_numpy(mask)[None].half(),
        lambda mask: torch.from_numpy(mask).float().to_sparse(),
        lambda mask: np.ma.masked_array(mask),
    ],
)
def test_every_way_to_say_inside_and_outside(convert):
    for region in (Mask(convert(inside())), as_region(convert(inside()))):
        assert torch.equal(region.weights, torch.from_numpy(inside()).float())


def photograph(mode: str) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            photograph("L"),
            r"^This image \(mode L\) of uint8 has \d+ levels up to \d+, like a ph",
        ),
        (photograph("RGB"), r"^This image \(mode RGB\) has colours, like a photograph"),
        (photograph("RGBA"), r"^This image \(mode RGBA\) has colours"),
        (photograph("CMYK"), r"^This image \(mode CMYK\) has colours"),
        (photograph("P"), r"^This image \(mode P\) is a map of \d+ labels"),
        (photograph("I"), r"^This image \(mode I\) of int32 has \d+ levels"),
        (np.asarray(photograph("L")), r"Say which pixels are inside: mask > \d+\. For a soft mask"),
        (np.asarray(photograph("L"), np.float32), r"or divide by what counts as wholly inside\.$"),
        (Image.new("L", (96, 64), 51), r"has 1 level up to 51; a mask has 0 and 1, or 0 and 255"),
        (palette([255, 255, 255, 128, 0, 0], inside()), r"is a map of 2 labels"),
        (rgba(inside(), 7), r"has transparent pixels, and it is not known whether these are ins"),
        (np.ma.masked_array(inside(), ~inside()), r"has masked entries\. Fill them first"),
        (torch.zeros(8, 8, device="meta"), r"^A mask is an array of numbers"),
    ],
)
def test_what_is_no_mask(value, text):
    with pytest.raises(RegionError, match=text):
        Mask(value)


def test_a_mask_keeps_what_it_was_made_of():
    array = inside().astype(np.float32)
    mask = Mask(array)
    array[:] = 7.0
    assert float(mask.weights.max()) == 1.0


def test_edges_are_the_box_around():
    mask = inside()
    mask[12, 3] = True
    assert Mask(mask).edges() == Box(3, 10, 90, 20).edges()


@pytest.mark.parametrize("shape", [(), (96,)])
def test_wrong_number_of_axes(shape):
    with pytest.raises(RegionError) as caught:
        Mask(np.ones(shape, dtype=bool))
    assert str(caught.value) == f"A mask has two axes (height, width), this has shape {shape}."


@pytest.mark.parametrize("shape", [(3, 64, 96), (64, 96, 3), (2, 64, 96), (2, 1, 64, 96)])
def test_several_masks(shape):
    masks = np.zeros(shape, dtype=bool)
    masks[..., 5, 1] = masks[0] = True
    with pytest.raises(RegionError) as caught:
        Mask(masks)
    assert f"A mask has two axes (height, width), this has shape {shape}" in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "int8"])
def test_integers_over_one(dtype):
    mask = inside().astype(dtype) * np.asarray(100, dtype)
    with pytest.raises(RegionError) as caught:
        Mask(mask)
    assert str(caught.value) == (
        f"This array of {dtype} has 2 levels up to 100; a mask has 0 and 1, or 0 and 255. Say "
        "which pixels are inside: mask > 50. For a soft mask give floats from 0 to 1: mask / 255."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value):
    mask = inside().astype(np.float32)
    mask[0, 0] = value
    with pytest.raises(RegionError, match=r"^The mask has values that are not finite\.$"):
        Mask(mask)


@pytest.mark.parametrize(
    ("value", "span", "cure"),
    [
        (255.0, "0 to 255", "(mask > 127.5), or divide by what counts as wholly inside"),
        (-0.5, "-0.5 to 1", ": mask > threshold"),
        (1.01, "0 to 1.01", "(mask > 0.505), or divide by what counts as wholly inside"),
    ],
)
def test_beyond_zero_to_one(value, span, cure):
    mask = inside().astype(np.float32)
    mask[0, 0] = value
    with pytest.raises(RegionError) as caught:
        Mask(mask)
    start = f"Mask values must lie in [0, 1]; these go from {span}. Give booleans"
    assert str(caught.value) == f"{start}{cure if cure[0] == ':' else ' ' + cure}."


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
        RegionError, match=r"^A mask is boolean or of floats from 0 to 1, not complex128\.$"
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
            + " Its axes are (height, width): transpose it."
            * (shape == (96, 64))
        )


def test_outside_is_what_the_mask_leaves_out():
    mask = Mask(inside())
    assert torch.equal(mask.outside.weights, 1.0 - mask.weights)
    assert torch.equal((~mask).weights, mask.outside.weights)
    assert torch.equal((~~mask).weights, mask.weights)
    grey = Mask(np.full(SIZE, 0.2))
    torch.testing.assert_close((~grey).weights, torch.full(SIZE, 0.8))


def test_nothing_is_outside_of_everything():
    for call in (lambda mask: mask.outside, lambda mask: ~mask):
        with pytest.raises(
            RegionError,
            match=r"^The mask covers the whole image, so there is nothing outside of it\.$",
        ):
            call(Mask(np.ones(SIZE)))
