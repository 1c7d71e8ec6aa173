"""Planes ``(rows, heads, tokens, pixels)``: every head's own probabilities, in each backend."""

from __future__ import annotations

import math

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from diffusers_rdaam.kernels import operator
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.portable import accumulate
from diffusers_rdaam.kernels.reference import attention_probabilities, head_mean_probabilities


def inputs(*, rows=2, heads=3, pixels=24, tokens=7, dim=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, heads, pixels, dim, generator=generator) * 2.0
    key = torch.randn(rows, heads, tokens, dim, generator=generator) * 2.0
    return query.to(dtype), key.to(dtype)


def planes(query, key, pair=True):
    shape = (*query.shape[:2], key.shape[2], query.shape[2])
    high = torch.zeros(shape, dtype=torch.float16)
    return high, torch.zeros_like(high) if pair else None


def definition(query, key, mask=None, scale=0.4):
    mask = None if mask is None else mask.double()
    maps = attention_probabilities(query.double(), key.double(), mask=mask, scale=scale)
    return maps.mT.float()


def assert_same(maps, wanted, *, pair=True):
    # A single plane rounds each of three additions, to 6e-8 where half precision is subnormal.
    rtol, atol = (1e-5, 6e-8) if pair else (3e-3, 1e-7)
    torch.testing.assert_close(maps, wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "heads", "tokens", "pixels", "dim"),
    [(1, 1, 1, 1, 5), (3, 1, 7, 513, 8), (2, 5, 77, 511, 40), (2, 3, 154, 700, 5)],
)
def test_agrees_with_the_definition(rows, heads, tokens, pixels, dim, dtype):
    query, key = inputs(rows=rows, heads=heads, tokens=tokens, pixels=pixels, dim=dim, dtype=dtype)
    high, low = planes(query, key)
    accumulate(query, key, high, low, scale=dim**-0.5)
    assert_same(read_planes(high, low), definition(query, key, scale=dim**-0.5))
    torch.testing.assert_close(
        read_planes(high, low).mean(dim=1),
        head_mean_probabilities(query.double(), key.double(), scale=dim**-0.5).float(),
        rtol=1e-5,
        atol=6e-8,
    )


@pytest.mark.parametrize("backend", ["portable", "reference"])
@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_every_backend_adds_to_what_is_there(backend, pair, masked):
    query, key = inputs()
    mask = torch.randn(2, 1, 24, 7, generator=torch.Generator().manual_seed(1))
    mask[..., 3], mask[1, :, 5] = -math.inf, -math.inf
    mask = mask if masked else None
    high, low = planes(query, key, pair)
    for _ in range(3):
        choose(backend).accumulate(query, key, high, low, mask=mask, scale=0.4)
    got, wanted = read_planes(high, low), 3 * definition(query, key, mask)
    assert_same(got, wanted, pair=pair)
    if masked:
        assert (got[:, :, 3] == 0).all() and (got[1, :, :, 5] == 0).all()


@pytest.mark.parametrize("tile", [1, 10, 23, 24, 25, 48, 49])
def test_tiles_make_no_difference(tile):
    query, key = inputs(rows=3)
    mask = torch.randn(3, 3, 24, 7, generator=torch.Generator().manual_seed(1))
    high, low = planes(query, key)
    accumulate(query, key, high, low, mask=mask, scale=0.4, tile=tile)
    assert_same(read_planes(high, low), definition(query, key, mask))


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_one_graph_for_all_sizes(pair, masked):
    torch._dynamo.reset()
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def step(query, key, mask, high, low):
        operator.accumulate(query, key, high, low, mask=mask, scale=0.4)
        return query + 1

    for pixels in (35, 700, 3000):
        query, key = inputs(pixels=pixels)
        mask = torch.randn(2, 1, 1, 7) if masked else None
        high, low = planes(query, key, pair)
        for _ in range(2):
            step(query, key, mask, high, low)
        assert_same(read_planes(high, low), 2 * definition(query, key, mask), pair=pair)
    assert counter.frame_count == 1
