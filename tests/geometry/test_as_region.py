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
        ([(1, 2), (3, 4), (5, 6, 7)], r"^\(5, 6, 7\) is not a point\."),
        ([1, 2, 3, "4"], r"^bottom of a box must be a number of pixels, not '4'\.$"),
        ([1, (2, 3), 4, 5], r"^top of a box must be a number of pixels, not \(2, 3\)\.$"),
        (np.array([0.0, 0.0, np.nan, 3.0]), r"^right of a box is nan; it must be finite\."),
        (np.array(3), r"^A mask has two axes \(height, width\), this has shape \(\)\.$"),
        (np.eye(64)[..., None] * [1, 0, 1], r"this has shape \(64, 64, 3\): colours, or several"),
        ([[1, 2], ["a", 4], [5, 6]], r"^\('a', 4\) is not a point\."),
        ([[[1]]] * 4, r"^\(\[1\],\) is not a point\."),
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
        f"{value!r} is not a region. Give a box (left, top, right, bottom) in pixels, half-open, "
        "with left < right and top < bottom, a list of (x, y) points, or a mask of the image's "
        "size."
    )


SCALED = "(9.6, 12.8, 48, 32)"


@pytest.mark.parametrize(
    "value",
    [
        (0.1, 0.2, 0.5, 0.5),
        [0.1, 0.2, 0.5, 0.5],
        np.array([0.1, 0.2, 0.5, 0.5]),
        torch.tensor([0.1, 0.2, 0.5, 0.5]),
        [np.float32(0.1), 0.2, 0.5, torch.tensor(0.5)],
    ],
)
def test_shares_of_the_image_are_shown_in_pixels(value):
    with pytest.raises(RegionError) as caught:
        as_region(value, image_size=(64, 96))
    assert str(caught.value).endswith(f"multiply by the image's width and height: {SCALED}.")


@pytest.mark.parametrize(
    "value",
    [
        [(0.1, 0.1), (0.9, 0.2), (0.4, 0.8)],
        np.array([(0.1, 0.1), (0.9, 0.2), (0.4, 0.8)]),
        [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
    ],
)
def test_polygons_in_shares_of_the_image(value):
    for options in ({}, {"image_size": (64, 96)}):
        with pytest.raises(RegionError, match=r"of this polygon lie in 0 to 1, so it looks norm"):
            as_region(value, **options)


@pytest.mark.parametrize(
    "value",
    [
        (10.5, 20.25, 40.0, 50.0),
        np.array([10.5, 20.25, 40.0, 50.0], np.float16),
        torch.tensor([10.5, 20.25, 40.0, 50.0], dtype=torch.bfloat16),
        torch.tensor([[10.5, 20.25, 40.0, 50.0]]),
        [[10.5, 20.25, 40, 50]],
        list(torch.tensor([10.5, 20.25, 40.0, 50.0])),
        tuple(np.float32(edge) for edge in (10.5, 20.25, 40.0, 50.0)),
    ],
)
def test_boxes_of_detectors(value):
    assert as_region(value) == Box(10.5, 20.25, 40, 50)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_contours_of_opencv_are_polygons(dtype):
    contour = np.array([[[10, 20]], [[40, 20]], [[40, 50]], [[10, 50]]], dtype)
    wanted = Polygon(((10, 20), (40, 20), (40, 50), (10, 50)))
    assert as_region(contour) == wanted
    assert as_region(contour.tolist()) == wanted
    assert as_region(list(contour)) == wanted
    assert as_region(torch.from_numpy(contour)) == wanted
    assert Polygon(contour) == wanted


CONTOUR = np.array([[[10, 20]], [[40, 20]], [[40, 50]]], np.int32)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([(1, 2, 30, 40), (5, 6, 70, 80)], "2 boxes"),
        (np.array([(1, 2, 30, 40), (5, 6, 70, 80), (1, 1, 2, 2)]), "3 boxes"),
        (torch.tensor([(1.5, 2, 30, 40), (5, 6, 70, 80)]), "2 boxes"),
        ([Box(1, 2, 30, 40), Box(5, 6, 70, 80)], "2 regions"),
        ([np.array([1, 2, 30, 40]), np.array([5, 6, 70, 80])], "2 boxes"),
        ((CONTOUR, CONTOUR), "2 regions"),
        ((CONTOUR, CONTOUR[:2]), "2 regions"),
        ([TRIANGLE, TRIANGLE], "2 regions"),
    ],
)
def test_several_regions_name_the_question_for_several(value, text):
    with pytest.raises(RegionError) as caught:
        as_region(value)
    assert str(caught.value) == (
        f"These are {text}, and one region is needed here. Give them one by one, or all to "
        "attribution.regions([…]), which answers each."
    )


def test_a_long_value_is_cut_in_the_error():
    with pytest.raises(RegionError) as caught:
        as_region({"x": "y" * 100_000})
    assert len(str(caught.value)) < 400
    with pytest.raises(RegionError) as caught:
        as_region(list(range(100_000)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("rows", [np.eye(8).tolist(), np.eye(8, dtype=bool).tolist()])
def test_rows_of_a_mask_as_lists(rows):
    region = as_region(rows)
    assert isinstance(region, Mask) and torch.equal(region.weights, torch.eye(8))


@pytest.mark.parametrize(
    "value", [torch.zeros(4, device="meta"), [torch.zeros((), device="meta")] * 4]
)
def test_numbers_that_are_not_there(value):
    with pytest.raises(RegionError):
        as_region(value)
