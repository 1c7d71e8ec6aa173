"""Polygons: exact areas, and every outline that is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.fill import ROWS, filled
from diffusers_rdaam.geometry.grid import interpolation_matrix
from diffusers_rdaam.geometry.region import Box, Mask, Polygon, as_region

SIZE = (64, 96)


@given(
    left=st.integers(0, 94), top=st.integers(0, 62), width=st.integers(1, 95),
    height=st.integers(1, 63),
)  # fmt: skip
def test_a_rectangle_equals_the_box(left, top, width, height):
    right, bottom = min(left + width, 96), min(top + height, 64)
    box = Box(left, top, right, bottom)
    corners = tuple(box.edges())
    assert torch.equal(Polygon(corners).coverage(SIZE), box.coverage(SIZE))
    assert torch.equal(Polygon(corners[::-1]).coverage(SIZE), box.coverage(SIZE))
    (one,), (other,) = (region.grid_weights(SIZE, [(4, 6)]) for region in (box, Polygon(corners)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        (((10.0, 10.0), (70.0, 10.0), (10.0, 50.0)), 1200.0),
        (((10.0, 5.0), (90.0, 30.0), (40.0, 60.0)), 1825.0),
        (((50.0, 10.0), (80.0, 30.0), (50.0, 50.0), (20.0, 30.0)), 1200.0),
        (((0.0, 0.0), (96.0, 0.0), (96.0, 64.0), (48.0, 32.0), (0.0, 64.0)), 4608.0),
    ],
)
def test_area(points, area):
    coverage = Polygon(points).coverage(SIZE)
    assert float(coverage.min()) == 0.0 and float(coverage.max()) == 1.0
    assert float(coverage.sum()) == pytest.approx(area, rel=1e-3)


def test_edge_pixels_count_with_their_share():
    half = Polygon(((10.5, 20.0), (30.5, 20.0), (30.5, 40.0), (10.5, 40.0))).coverage(SIZE)
    assert (half[20:40, 10] == 0.5).all() and (half[20:40, 30] == 0.5).all()
    assert (half[20:40, 11:30] == 1.0).all()
    assert float(half.sum()) == 400.0


def test_what_reaches_beyond_the_image_is_cut():
    points = ((-1000.0, -1000.0), (48.0, -1000.0), (48.0, 1000.0), (-1000.0, 1000.0))
    assert torch.equal(Polygon(points).coverage(SIZE), Box(0, 0, 48, 64).coverage(SIZE))


def test_transposing_swaps_x_and_y():
    points = ((10.0, 5.0), (90.0, 30.0), (40.0, 60.0))
    coverage = Polygon(points).coverage(SIZE)
    other = Polygon(tuple((y, x) for x, y in points)).coverage(SIZE[::-1])
    assert float((coverage - other.T).abs().max()) < 0.25
    assert float((coverage - other.T).abs().sum()) < 0.002 * float(coverage.sum())


def test_an_outline_that_crosses_itself_is_a_region():
    bow_tie = Polygon(((0.0, 0.0), (60.0, 60.0), (60.0, 0.0), (0.0, 60.0)))
    assert float(bow_tie.coverage(SIZE).sum()) == pytest.approx(1800.0, rel=1e-3)


def test_a_hole_by_the_even_odd_rule():
    outer, inner = Box(10, 10, 50, 50).edges(), Box(20, 20, 40, 40).edges()
    coverage = Polygon((*outer, outer[0], *inner, inner[0])).coverage(SIZE)
    wanted = Box(10, 10, 50, 50).coverage(SIZE) - Box(20, 20, 40, 40).coverage(SIZE)
    assert torch.equal(coverage, wanted)


@given(
    points=st.lists(
        st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=3, max_size=7, unique=True
    )
)
def test_the_share_of_a_pixel_is_that_of_its_sample_rows(points):
    """Against a loop over sample rows: the crossings of each, sorted, in and out by turns."""
    wanted = np.zeros(SIZE)
    for row, shares in enumerate(wanted):
        for y in row + (np.arange(ROWS) + 0.5) / ROWS:
            crossings = sorted(
                min(max(a + (y - b) * (c - a) / (d - b), 0.0), 96.0)
                for (a, b), (c, d) in zip(points, points[1:] + points[:1], strict=True)
                if (b <= y) != (d <= y)
            )
            for left, right in zip(crossings[::2], crossings[1::2], strict=True):
                covered = np.arange(96) + 1.0
                shares += (covered.clip(left, right) - (covered - 1.0).clip(left, right)) / ROWS
    assert np.abs(filled(tuple(points), SIZE).numpy() - wanted).max() < 2e-6


def test_the_weights_of_cells_are_those_of_the_covered_pixels():
    """The part of the image around the outline gives what the whole image gives."""
    grids = [(8, 12), (64, 96), (8, 12), (3, 5)]
    for points in (
        ((10.3, 5.2), (90.1, 30.7), (40.0, 60.9)),
        ((-20.0, 50.5), (30.0, 70.0), (3.0, 58.0)),
        ((95.2, 63.1), (95.9, 63.1), (95.9, 63.9)),
    ):
        polygon = Polygon(points)
        coverage = polygon.coverage(SIZE).double()
        for grid, weights in zip(grids, polygon.grid_weights(SIZE, grids), strict=True):
            rows, columns = (
                interpolation_matrix(cells, pixels).double()
                for cells, pixels in zip(grid, SIZE, strict=True)
            )
            wanted = rows.T @ (coverage / coverage.sum()) @ columns
            torch.testing.assert_close(weights.double(), wanted, rtol=1e-5, atol=1e-7)
        masked = Mask(polygon.coverage(SIZE)).grid_weights(SIZE, grids)
        for one, other in zip(masked, polygon.grid_weights(SIZE, grids), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_small_polygon_covers_a_part_of_one_pixel():
    coverage = Polygon(((10.0, 10.0), (10.5, 10.0), (10.5, 10.5), (10.0, 10.5))).coverage(SIZE)
    assert float(coverage[10, 10]) == float(coverage.sum()) == 0.25


@given(
    points=st.lists(
        st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=3, max_size=8, unique=True
    )
)
def test_coverage_is_a_share_and_matches_points_inside(points):
    polygon = (
        Polygon(tuple(points))
        if np.linalg.matrix_rank(np.asarray(points) - points[0]) == 2
        else Polygon(((0.0, 0.0), (9.0, 0.0), (0.0, 9.0)))
    )
    coverage = filled(polygon.points, SIZE)
    assert coverage.shape == SIZE
    assert float(coverage.min()) >= 0.0 and float(coverage.max()) <= 1.0
    # Full and empty pixels, against the ray of each pixel's first sample row.
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(64) + 0.125)
    inside = np.zeros(SIZE, dtype=bool)
    for (a, b), (c, d) in zip(polygon.points, polygon.points[1:] + polygon.points[:1], strict=True):
        if b != d:
            inside ^= ((b <= y) != (d <= y)) & (x > a + (y - b) * (c - a) / (d - b))
    assert inside[coverage.numpy() == 1.0].all()
    assert not inside[coverage.numpy() == 0.0].any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_points(count):
    with pytest.raises(RegionError) as caught:
        Polygon(((1.0, 2.0), (3.0, 4.0))[:count])
    assert str(caught.value) == f"A polygon needs at least 3 points, this has {count}."


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    "point",
    [(1,), (1, 2, 3), 5, None, "12", ("1", "2"), (None, 2), (1j, 2), b"12", (True, 2), ((1,), 2)],
)
def test_bad_point(point):
    with pytest.raises(RegionError) as caught:
        Polygon(((0, 0), (50, 0), point))
    assert str(caught.value) == f"{point!r} is not a point. A point is (x, y) in pixels."


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_point_that_is_not_finite(value):
    with pytest.raises(RegionError, match=r"^The point \(.*, 2\) of the polygon is not finite\.$"):
        Polygon(((0, 0), (50, 0), (value, 2)))


@pytest.mark.parametrize("value", [1e8, -1e30, 1e300])
def test_point_farther_off_than_can_be_filled(value):
    with pytest.raises(RegionError, match=r"^The point .* is over 1e\+07 pixels off the image\.$"):
        Polygon(((0.0, 0.0), (50.0, 0.0), (3.0, value)))


@pytest.mark.parametrize(
    "points",
    [
        ((0.0, 0.0), (10.0, 10.0), (20.0, 20.0)),
        ((0.0, 0.0), (0.1, 0.3), (0.2, 0.6), (0.3, 0.9)),
        ((5.0, 5.0), (5.0, 5.0), (5.0, 5.0)),
        ((5.0, 5.0), (5.0, 5.0), (9.0, 5.0)),
    ],
)
def test_points_on_one_line(points):
    with pytest.raises(
        RegionError, match=r"^The polygon has no area: its points lie on one line\.$"
    ):
        Polygon(points)


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize("points", [None, 5])
def test_no_points(points):
    with pytest.raises(RegionError, match=rf"^{points} is not a list of \(x, y\) points\.$"):
        Polygon(points)


def test_too_thin_to_cover_anything():
    with pytest.raises(RegionError, match=r"or is too thin to cover any of it\."):
        Polygon(((10.0, 10.2), (50.0, 10.2), (50.0, 10.3))).coverage(SIZE)


@pytest.mark.parametrize("shift", [(200, 0), (0, 200), (-200, 0), (0, -200)])
def test_outside(shift):
    points = tuple((x + shift[0], y + shift[1]) for x, y in ((0.0, 0.0), (50.0, 0.0), (0.0, 50.0)))
    for call in (Polygon(points).coverage, lambda size: Polygon(points).grid_weights(size, [])):
        with pytest.raises(RegionError) as caught:
            call(SIZE)
        assert str(caught.value) == (
            "The polygon lies outside the image, which is 96 pixels wide and 64 high, or is too "
            "thin to cover any of it. Points are (x, y) in image pixels."
        )


@pytest.mark.usefixtures("types_unchecked")
def test_points_of_other_number_types_become_floats():
    polygon = Polygon(np.asarray([[0, 0], [50, 0], [0, 50]], dtype=np.int32))
    assert polygon == Polygon(((0.0, 0.0), (50.0, 0.0), (0.0, 50.0)))
    assert polygon.edges() == [(0.0, 0.0), (50.0, 0.0), (0.0, 50.0)]


@pytest.mark.parametrize(
    "point",
    [
        (2.5, 40), [2.5, 40], (np.float64(2.5), 40), (np.float32(2.5), np.int64(40)),
        np.array([2.5, 40.0]), torch.tensor([2.5, 40.0]),
    ],
    ids=["tuple", "list", "float64", "numpy's numbers", "array", "tensor"],
)  # fmt: skip
@pytest.mark.parametrize("size", [None, SIZE])
def test_points_of_every_kind_are_the_same_floats(point, size):
    """Those of Python are checked all at once, the others one by one."""
    points = as_region([(0, 0), (90.25, 3), point], image_size=size).points
    assert points == ((0.0, 0.0), (90.25, 3.0), (2.5, 40.0))
    assert {type(x) for pair in points for x in pair} == {float}
    assert points == Polygon(((0, 0), (90.25, 3), (2.5, 40))).points


@pytest.mark.parametrize(
    ("point", "text"),
    [
        ((math.nan, 1), r"The point \(nan, 1\) of the polygon is not finite"),
        ((1, -math.inf), "is not finite"),
        ((10**400, 1), "is not finite"),
        ((1e7 + 1, 1), "is over 1e.07 pixels off the image"),
        ((True, 1), "is not a point"),
        (("1", 1), "is not a point"),
        ((1, 2, 3), "is not a point"),
        ((None, 1), "is not a point"),
    ],
)
@pytest.mark.parametrize("size", [None, SIZE])
def test_one_wrong_point_among_right_ones(point, text, size):
    with pytest.raises(RegionError, match=text):
        as_region([(0, 0), (90, 3), (50, 60), point], image_size=size)


@pytest.mark.parametrize("size", [None, SIZE])
def test_shares_of_the_image_are_refused_as_before(size):
    with pytest.raises(RegionError, match="looks normalized"):
        as_region([(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)], image_size=size)
    assert as_region([(0, 0), (1, 0), (0, 1)], image_size=size).points[1] == (1.0, 0.0)
    assert as_region([(0.0, 0.0), (1.2, 0.0), (0.5, 1.0)], image_size=size).points[1][0] == 1.2
