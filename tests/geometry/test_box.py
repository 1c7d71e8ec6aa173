"""Boxes: what is one, what is none, and what of it lies in the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.region import Box, Mask, Polygon

SIZE = (64, 96)


def test_area_and_tuple():
    box = Box(10, 20, 40, 25)
    assert box.as_tuple() == (10, 20, 40, 25)
    assert box.area == 30 * 5
    assert box.edges() == [(10.0, 20.0), (40.0, 20.0), (40.0, 25.0), (10.0, 25.0)]
    assert box == Box(10, 20, 40, 25) and hash(box) == hash(Box(10, 20, 40, 25))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("number", [float, np.int64, np.float32, np.uint8])
def test_whole_numbers_of_any_type_become_ints(number):
    box = Box(number(1), number(2), number(30), number(40))
    assert box == Box(1, 2, 30, 40)
    assert all(type(edge) is int for edge in box.as_tuple())


@pytest.mark.parametrize(
    ("edges", "kind"),
    [
        ((10, 10, 10, 20), "empty"),
        ((10, 10, 20, 10), "empty"),
        ((5, 5, 5, 5), "empty"),
        ((20, 10, 10, 20), "inverted"),
        ((10, 20, 20, 10), "inverted"),
        ((10.5, 20, 10, 30), "inverted"),
    ],
)
def test_empty_and_inverted(edges, kind):
    with pytest.raises(RegionError) as caught:
        Box(*edges)
    assert str(caught.value) == (
        f"The box {edges} is {kind}. A box is (left, top, right, bottom) in pixels, half-open, "
        "with left < right and top < bottom. If these are x, y, width and height, write "
        f"Box.from_xywh({', '.join(map(str, edges))})."
    )


def test_a_box_that_ends_before_the_image_is_not_taken_for_a_size():
    with pytest.raises(RegionError, match=r"^The box \(5, 5, -3, 9\) is inverted\. .* bottom\.$"):
        Box(5, 5, -3, 9)


@pytest.mark.usefixtures("types_unchecked")
def test_x_y_width_and_height():
    assert Box.from_xywh(10, 20, 30, 5.5) == Box(10, 20, 40, 25.5)
    with pytest.raises(RegionError, match=r"^height of a box must be a number"):
        Box.from_xywh(1, 2, 3, None)  # type: ignore[arg-type]
    with pytest.raises(RegionError, match=r"looks normalized"):
        Box.from_xywh(0.5, 0.5, 0.9, 0.9)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("value", [True, np.True_, "3", None, 1j, np.complex64(1), [3], b"3"])
@pytest.mark.parametrize("position", range(4))
def test_not_a_number(value, position):
    edges = [1, 2, 30, 40]
    edges[position] = value
    name = ("left", "top", "right", "bottom")[position]
    with pytest.raises(RegionError) as caught:
        Box(*edges)
    assert str(caught.value) == f"{name} of a box must be a number of pixels, not {value!r}."


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("value", "shown"),
    [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (np.float32("nan"), "nan"),
     (10**400, "inf")],
)  # fmt: skip
def test_not_finite(value, shown):
    with pytest.raises(RegionError, match=rf"^top of a box is {shown}; it must be finite\. A box"):
        Box(1, value, 30, 40)


def test_fractions_count_by_area():
    coverage = Box(70.5, 10, 90.25, 20.75).coverage(SIZE)
    assert float(coverage.sum()) == pytest.approx(19.75 * 10.75)
    assert float(coverage[12, 70]) == 0.5 and float(coverage[12, 90]) == 0.25
    assert float(coverage[20, 80]) == 0.75 and float(coverage[20, 90]) == 0.25 * 0.75
    assert Box(70.5, 10, 90.25, 20.75).area == 19.75 * 10.75


def test_a_box_with_fractions_is_the_polygon_and_the_mask_of_its_shares():
    box = Box(70.5, -3.5, 96.25, 20.75)
    polygon = Polygon(tuple(box.edges()))
    torch.testing.assert_close(box.coverage(SIZE), polygon.coverage(SIZE))
    mask = Mask(box.coverage(SIZE))
    for region in (polygon, mask):
        for one, other in zip(
            box.grid_weights(SIZE, [(8, 12), (2, 3)]),
            region.grid_weights(SIZE, [(8, 12), (2, 3)]),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
            assert float(one.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_box_within_one_pixel():
    inside = Box(-20.5, -7, 0.5, 0.25).inside(SIZE)
    assert inside.as_tuple() == (0, 0, 0.5, 0.25)
    assert float(inside.coverage(SIZE)[0, 0]) == 0.125
    with pytest.raises(RegionError, match=r"less than 0\.0001 pixels lie inside the image"):
        Box(10, 10, 10.00001, 20).coverage(SIZE)


def test_a_box_is_a_sequence_of_its_edges():
    box = Box(10, 20, 40, 25)
    left, top, right, bottom = box
    assert (left, top, right, bottom) == tuple(box) == box.as_tuple()
    assert len(box) == 4 and box[0] == 10 and box[-1] == 25 and box[:2] == (10, 20)
    assert Image.new("RGB", (96, 64)).crop(box).size == (30, 5)
    assert Image.new("RGB", (96, 64)).crop(Box(10.4, 20, 40, 25)).size == (30, 5)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "edges",
    [
        (0.0, 0.0, 1.0, 1.0),
        (0.1, 0.2, 0.5, 0.75),
        (0, 0, 0.5, 1),
        (-0.02, 0.1, 1.03, 0.9),
        tuple(np.float32(x) for x in (0.1, 0.2, 0.5, 0.75)),
        tuple(torch.tensor([0.1, 0.2, 0.5, 0.75])),
    ],
)
def test_boxes_in_shares_of_the_image(edges):
    with pytest.raises(RegionError) as caught:
        Box(*edges)
    first = f"{float(edges[0]):.4g} * width"
    assert "lie in 0 to 1, so it looks normalized: given in shares of the image" in str(
        caught.value
    )
    assert f"({first}, {float(edges[1]):.4g} * height, " in str(caught.value)


def test_the_first_pixel_is_a_box_of_whole_numbers():
    assert float(Box(0, 0, 1, 1).coverage(SIZE).sum()) == 1.0


@pytest.mark.parametrize(
    ("edges", "cut"),
    [
        ((-5, 10, 20, 30), (0, 10, 20, 30)),
        ((10, -5, 20, 30), (10, 0, 20, 30)),
        ((90, 10, 200, 30), (90, 10, 96, 30)),
        ((10, 60, 20, 300), (10, 60, 20, 64)),
        ((-9, -9, 999, 999), (0, 0, 96, 64)),
        ((0, 0, 96, 64), (0, 0, 96, 64)),
        ((0, 0, 10**15, 10**15), (0, 0, 96, 64)),
    ],
)
def test_what_reaches_beyond_the_image_is_cut(edges, cut):
    assert Box(*edges).inside(SIZE) == Box(*cut)
    assert torch.equal(Box(*edges).coverage(SIZE), Box(*cut).coverage(SIZE))
    parts = zip(
        Box(*edges).grid_weights(SIZE, [(8, 12), (2, 3)]),
        Box(*cut).grid_weights(SIZE, [(8, 12), (2, 3)]),
        strict=True,
    )
    assert all(torch.equal(one, other) for one, other in parts)


@pytest.mark.parametrize(
    "edges",
    [(96, 0, 100, 10), (0, 64, 10, 70), (-10, 0, 0, 10), (0, -10, 10, 0), (70, 70, 90, 90)],
)
@pytest.mark.parametrize("method", ["inside", "coverage", "grid_weights"])
def test_outside(edges, method):
    arguments = (SIZE, [(8, 12)]) if method == "grid_weights" else (SIZE,)
    with pytest.raises(RegionError) as caught:
        getattr(Box(*edges), method)(*arguments)
    assert str(caught.value) == (
        f"The box {edges} lies outside the image, which is 96 pixels wide and 64 high. Give a box "
        "that overlaps (0, 0, 96, 64)."
    )


def test_coverage_has_the_height_first():
    coverage = Box(70, 10, 90, 20).coverage(SIZE)
    assert coverage.shape == SIZE
    assert float(coverage.sum()) == 200.0
    assert (coverage[10:20, 70:90] == 1.0).all()


def test_grid_weights_of_a_box_over_whole_cells_lie_on_these_cells():
    (weights,) = Box(72, 0, 96, 16).grid_weights(SIZE, [(4, 6)])
    assert weights.shape == (4, 6)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-6)
    # Cells are 16 pixels: columns 4.5 to 6, row 0.
    assert int(weights.argmax()) == 5
    assert float(weights[0, 4:].sum()) > 0.9
