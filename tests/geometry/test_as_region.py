"""What a user has at hand becomes a box, a polygon, a mask, or a clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, as_region

TRIANGLE = ((1.0, 2.0), (30.0, 4.0), (5.0, 60.0))
pytestmark = pytest.mark.usefixtures("types_unchecked")


@pytest.mark.parametrize(
    "value",
    [
        (1, 2, 30, 40),
        [1, 2, 30, 40],
        [1.0, 2.0, 30.0, 40.0],
        np.array([1, 2, 30, 40]),
        np.array([1.0, 2.0, 30.0, 40.0], dtype=np.float32),
        torch.tensor([1, 2, 30, 40]),
        range(1, 5),
        tuple(np.int64(edge) for edge in (1, 2, 30, 40)),
    ],
)
def test_four_numbers_are_a_box(value):
    wanted = Box(1, 2, 3, 4) if isinstance(value, range) else Box(1, 2, 30, 40)
    assert as_region(value) == wanted


@pytest.mark.parametrize(
    "value",
    [TRIANGLE, [list(point) for point in TRIANGLE], np.array(TRIANGLE), torch.tensor(TRIANGLE)],
)
def test_pairs_are_a_polygon(value):
    assert as_region(value) == Polygon(TRIANGLE)


@pytest.mark.parametrize(
    "value",
    [np.eye(4), torch.eye(4), torch.eye(4, dtype=torch.bool),
     Image.fromarray(255 * np.eye(4, dtype=np.uint8))],
)  # fmt: skip
def test_arrays_and_images_are_masks(value):
    region = as_region(value)
    assert isinstance(region, Mask)
    assert torch.equal(region.weights, torch.eye(4))


@pytest.mark.parametrize("region", [Box(1, 2, 3, 4), Polygon(TRIANGLE), Mask(torch.eye(4))])
def test_a_region_stays(region):
    assert as_region(region) is region


@pytest.mark.parametrize("value", [[], [1], [1, 2, 3], [1, 2, 3, 4, 5], np.arange(5)])
def test_wrong_arity(value):
    count = len(value)
    shown = value.tolist() if isinstance(value, np.ndarray) else value
    with pytest.raises(RegionError) as caught:
        as_region(value)
    assert str(caught.value) == (
        f"A box has 4 numbers, this has {count}: {shown!r}. A box is (left, top, right, bottom) in "
        "pixels, half-open, with left < right and top < bottom; a polygon is a list of (x, y) "
        "points."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([(1, 2), (3, 4)], r"^A polygon needs at least 3 points, this has 2\.$"),
        ([(1, 2), (3, 4), (5, 6, 7)], r"^\(5, 6, 7\) is no point\."),
        ([1, 2, 3, "4"], r"^bottom of a box must be a number of pixels, not '4'\.$"),
        ([1, (2, 3), 4, 5], r"^top of a box must be a number of pixels, not \(2, 3\)\.$"),
        (np.array([0.0, 0.0, np.nan, 3.0]), r"^right of a box is nan; it must be finite\."),
        (np.array(3), r"^A mask has two axes \(height, width\), this has shape \(\)\.$"),
        (np.ones((64, 96, 3)), r"this has shape \(64, 96, 3\)\.$"),
        ([[[1]]] * 4, r"^\(\[1\],\) is no point\."),
    ],
)
def test_errors_of_the_parts(value, text):
    with pytest.raises(RegionError, match=text):
        as_region(value)


@pytest.mark.parametrize("value", [None, 7, "cat", b"cat", {"left": 1}, {1, 2, 3, 4}, iter([1])])
def test_no_region(value):
    with pytest.raises(RegionError) as caught:
        as_region(value)
    assert isinstance(caught.value, InputError) and isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        f"{value!r} is no region. Give a box (left, top, right, bottom) in pixels, half-open, with "
        "left < right and top < bottom, a list of (x, y) points, or a mask of the image's size."
    )
