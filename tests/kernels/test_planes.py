"""Half-precision sums against float64 after many additions."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.kernels.planes import REMAINDER_SCALE, add_to_planes, read_planes


def sums(additions: int, *, pair: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The planes' sums and the float64 ones, of maps from 1e-6 to nearly 1."""
    generator = torch.Generator().manual_seed(0)
    logits = 4.0 * torch.randn(1, 77, 12, generator=generator)
    high = torch.zeros(1, 77, 12, dtype=torch.float16)
    low = torch.zeros_like(high) if pair else None
    exact = torch.zeros(1, 77, 12, dtype=torch.float64)
    for _ in range(additions):
        noise = 0.3 * torch.randn(1, 77, 12, generator=generator)
        maps = (logits + noise).softmax(dim=1)
        add_to_planes(maps, high, low)
        exact += maps.double()
    return read_planes(high, low).double(), exact


def worst_relative_error(additions: int, *, pair: bool) -> float:
    total, exact = sums(additions, pair=pair)
    counted = exact / additions >= 1e-5
    assert 0.4 < float(counted.double().mean()) < 1.0
    return float(((total - exact).abs() / exact)[counted].max())


@pytest.mark.parametrize("additions", [50 * 5, 1000 * 5])
def test_the_pair_keeps_four_digits(additions):
    assert worst_relative_error(additions, pair=True) <= 1e-4


@pytest.mark.parametrize("additions", [50 * 5, 1000 * 5])
def test_a_single_plane_is_much_worse(additions):
    single = worst_relative_error(additions, pair=False)
    assert single > 20 * worst_relative_error(additions, pair=True)


def test_a_single_plane_stagnates_where_the_pair_does_not():
    addend = torch.full((1, 1, 1), 0.5)
    high, low, single = (torch.zeros(1, 1, 1, dtype=torch.float16) for _ in range(3))
    for _ in range(4096):
        add_to_planes(addend, high, low)
        add_to_planes(addend, single, None)
    assert float(read_planes(high, low)) == 2048.0
    assert float(read_planes(single, None)) == 1024.0


def test_read_planes_adds_the_scaled_remainder_and_keeps_the_planes():
    high = torch.full((1, 2, 3), 2.0, dtype=torch.float16)
    low = torch.full((1, 2, 3), 4.0, dtype=torch.float16)
    total = read_planes(high, low)
    assert total.dtype == torch.float32 and total.shape == (1, 2, 3)
    assert torch.equal(total, torch.full((1, 2, 3), 2.0 + 4.0 / REMAINDER_SCALE))
    assert torch.equal(read_planes(high, None), torch.full((1, 2, 3), 2.0))
    assert (high == 2.0).all() and (low == 4.0).all()


def test_the_addend_stays_as_it_is():
    addend = torch.rand(1, 7, 6)
    before = addend.clone()
    high, low = torch.rand(1, 7, 6).half(), torch.rand(1, 7, 6).half()
    add_to_planes(addend, high, low)
    assert torch.equal(addend, before)
