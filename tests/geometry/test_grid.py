"""Enlarging and its adjoint, against torch's own interpolation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam.geometry.grid import (
    enlarge,
    interpolation_matrix,
    pull_back,
    pull_back_box,
    pull_back_part,
)

SIZES = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1), (64, 96), (70, 100)]


def draw(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(64, 96), (63, 97), (5, 3), (1, 1)])
@pytest.mark.parametrize("grid", SIZES)
def test_enlarge_is_torchs_bicubic(grid, size):
    cells = draw(*grid)
    wanted = F.interpolate(cells[None, None], size=size, mode="bicubic", align_corners=False)
    torch.testing.assert_close(enlarge(cells, *size), wanted[0, 0], rtol=1e-4, atol=1e-4)


def test_enlarge_to_the_same_size_is_the_map_itself():
    cells = draw(8, 12)
    torch.testing.assert_close(enlarge(cells, 8, 12), cells)


@pytest.mark.parametrize(("cells", "pixels"), [(8, 64), (12, 96), (1, 96), (7, 50), (9, 4)])
def test_every_row_of_the_matrix_sums_to_one(cells, pixels):
    matrix = interpolation_matrix(cells, pixels)
    assert matrix.shape == (pixels, cells) and matrix.dtype == torch.float32
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(pixels), rtol=0, atol=1e-6)


def test_the_matrix_is_mirrored_with_the_image():
    matrix = interpolation_matrix(5, 32)
    torch.testing.assert_close(matrix.flip(0, 1), matrix)


@given(
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 999),
)
def test_pull_back_is_the_adjoint_of_enlarge(grid, size, seed):
    cells, weights = draw(*grid, seed), draw(*size, seed + 1)
    across = float((enlarge(cells, *size) * weights).double().sum())
    back = float((cells * pull_back(weights, *grid)).double().sum())
    scale = float(cells.norm() * weights.norm()) * max(size)
    assert abs(across - back) <= 1e-6 * scale + 1e-6


@given(
    across=st.tuples(st.integers(0, 95), st.integers(1, 96)).filter(lambda edge: edge[0] < edge[1]),
    down=st.tuples(st.integers(0, 63), st.integers(1, 64)).filter(lambda edge: edge[0] < edge[1]),
    grid=st.sampled_from([(8, 12), (4, 6), (2, 3), (1, 2), (3, 7)]),
)
def test_pull_back_of_a_box_is_pull_back_of_its_uniform_weights(across, down, grid):
    (left, right), (top, bottom) = across, down
    weights = torch.zeros(64, 96)
    weights[top:bottom, left:right] = 1.0 / ((right - left) * (bottom - top))
    box = pull_back_box((left, top, right, bottom), (64, 96), grid)
    torch.testing.assert_close(box, pull_back(weights, *grid), rtol=1e-4, atol=1e-6)
    assert float(box.sum()) == pytest.approx(1.0, abs=1e-5)


def test_pull_back_of_a_part_is_that_of_the_whole_image_with_zeros_around():
    """Parts that begin and end anywhere in a band, of images larger than one."""
    size, grids = (150, 200), ((8, 12), (64, 64), (1, 1), (150, 200))
    for top, bottom, left, right in ((0, 150, 0, 200), (63, 65, 199, 200), (10, 140, 70, 80)):
        part = draw(bottom - top, right - left)
        weights = torch.zeros(size)
        weights[top:bottom, left:right] = part
        for grid, cells in zip(grids, pull_back_part(part, (top, left), size, grids), strict=True):
            rows, columns = (
                interpolation_matrix(*lengths).double() for lengths in zip(grid, size, strict=True)
            )
            wanted = (rows.T @ weights.double() @ columns).float()
            torch.testing.assert_close(cells, wanted, rtol=1e-4, atol=1e-4)


def test_transposing_the_map_transposes_the_image():
    cells = draw(4, 6)
    torch.testing.assert_close(enlarge(cells.T, 96, 64), enlarge(cells, 64, 96).T)
    weights = draw(64, 96)
    torch.testing.assert_close(
        pull_back(weights.T, 6, 4), pull_back(weights, 4, 6).T, rtol=1e-4, atol=1e-4
    )


def test_height_and_width_are_not_swapped():
    cells = torch.zeros(2, 3)
    cells[0, 2] = 1.0
    image = enlarge(cells, 64, 96)
    assert image.shape == (64, 96)
    row, column = divmod(int(image.argmax()), 96)
    assert row < 32 and column >= 64
