"""Boxes: what is one, what is none, and what of it lies in the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffusers_rdaam.errors import RegionError
from diffusers_rdaam.geometry.region import Box

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
    ],
)
def test_empty_and_inverted(edges, kind):
    with pytest.raises(RegionError) as caught:
        Box(*edges)
    assert str(caught.value) == (
        f"The box {edges} is {kind}. A box is (left, top, right, bottom) in pixels, half-open, "
        "with left < right and top < bottom."
    )


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


@pytest.mark.usefixtures("types_unchecked")
def test_fractions():
    with pytest.raises(
        RegionError, match=r"^right of a box is 30\.5; boxes are in whole pixels\. Round it, or gi"
    ):
        Box(1, 2, 30.5, 40)


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
