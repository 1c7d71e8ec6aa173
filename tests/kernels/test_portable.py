"""The tiled kernel against the definition in float64, at awkward sizes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_rdaam import float32_products
from diffusers_rdaam.kernels import logits
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.portable import accumulate
from diffusers_rdaam.kernels.reference import head_mean_probabilities


def inputs(*, rows=2, heads=3, pixels=24, tokens=7, dim=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, heads, pixels, dim, generator=generator) * 2.0
    key = torch.randn(rows, heads, tokens, dim, generator=generator) * 2.0
    return query.to(dtype), key.to(dtype)


def planes(query, key):
    shape = (query.shape[0], key.shape[2], query.shape[2])
    return torch.zeros(shape, dtype=torch.float16), torch.zeros(shape, dtype=torch.float16)


def run(query, key, *, mask=None, scale=None, **options):
    high, low = planes(query, key)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    accumulate(query, key, high, low, mask=mask, scale=scale, **options)
    return read_planes(high, low)


def definition(query, key, *, mask=None, scale=None):
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    mask = None if mask is None else mask.double()
    return head_mean_probabilities(query.double(), key.double(), mask=mask, scale=scale).float()


def assert_same(maps, wanted):
    assert torch.isfinite(maps).all()
    torch.testing.assert_close(maps, wanted, rtol=1e-5, atol=3e-8)


@pytest.mark.parametrize("dim", [5, 40])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("tokens", [1, 7, 77, 154])
@pytest.mark.parametrize("pixels", [1, 511, 512, 513, 700])
def test_agrees_with_the_definition(pixels, tokens, heads, dim):
    query, key = inputs(heads=heads, pixels=pixels, tokens=tokens, dim=dim)
    assert_same(run(query, key), definition(query, key))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_float32_whatever_the_inputs(dtype):
    query, key = inputs(pixels=513, tokens=77, dim=40, dtype=dtype)
    assert_same(run(query, key), definition(query, key))


def test_large_logits_do_not_overflow():
    query, key = inputs(pixels=24, tokens=7)
    torch.testing.assert_close(
        run(query * 100, key * 100), definition(query * 100, key * 100), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("tile", [1, 2, 63, 64, 512, 513, 514, None])
def test_tiles_make_no_difference(tile):
    query, key = inputs(pixels=513)
    assert_same(run(query, key, tile=tile), definition(query, key))


@pytest.mark.parametrize("mask_rows", [1, 2])
@pytest.mark.parametrize("mask_heads", [1, 3])
@pytest.mark.parametrize("mask_pixels", [1, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_additive_mask(mask_rows, mask_heads, mask_pixels, dtype):
    query, key = inputs(dtype=dtype)
    mask = torch.randn(mask_rows, mask_heads, mask_pixels, 7)
    mask[..., 2] = -math.inf
    mask[..., 3] = torch.finfo(dtype).min
    mask = mask.expand(2, -1, -1, -1).to(dtype)
    maps = run(query, key, mask=mask, tile=10)
    assert_same(maps, definition(query, key, mask=mask))
    assert (maps[:, 2:4] == 0).all()


@pytest.mark.parametrize("everywhere", [False, True])
def test_positions_that_are_wholly_masked_are_zero(everywhere):
    query, key = inputs()
    mask = torch.zeros(2, 1, 1 if everywhere else 24, 7)
    mask[1, :, 0 if everywhere else 5] = -math.inf
    maps = run(query, key, mask=mask, tile=10)
    assert_same(maps, definition(query, key, mask=mask))
    assert (maps[1, :, 5] == 0).all() and (maps[0].sum(dim=0) > 0.99).all()


@given(
    pixels=st.integers(1, 90),
    cut=st.integers(0, 90),
    tile=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_chunks_equal_the_whole(pixels, cut, tile, seed):
    query, key = inputs(pixels=pixels, seed=seed)
    cut = min(cut, pixels)
    whole = run(query, key, tile=tile)
    parts = [
        run(part, key, tile=tile)
        for part in query.split([cut, pixels - cut], dim=2)
        if part.shape[2]
    ]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-5, atol=3e-8)


@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_the_order_of_the_heads_does_not_matter(order, seed):
    query, key = inputs(heads=4, seed=seed)
    torch.testing.assert_close(
        run(query[:, order], key[:, order]), run(query, key), rtol=1e-5, atol=3e-8
    )


@given(order=st.permutations(range(3)), seed=st.integers(0, 99))
def test_rows_are_independent(order, seed):
    query, key = inputs(rows=3, seed=seed)
    assert_same(run(query[order], key[order]), run(query, key)[order])


def test_adds_to_what_is_there():
    query, key = inputs()
    high, low = planes(query, key)
    for _ in range(3):
        accumulate(query, key, high, low, scale=0.4)
    assert_same(read_planes(high, low), 3 * definition(query, key, scale=0.4))


def test_without_remainder_the_plane_alone_holds_the_sum():
    query, key = inputs()
    high, _ = planes(query, key)
    accumulate(query, key, high, None, scale=0.4)
    torch.testing.assert_close(
        high.float(), definition(query, key, scale=0.4), rtol=5e-4, atol=3e-8
    )


def test_autocast_does_not_change_it():
    query, key = inputs(pixels=64, tokens=77, dim=40)
    plain = run(query, key)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (query @ key.transpose(-1, -2)).dtype == torch.bfloat16
        assert torch.equal(run(query, key), plain)


def test_inputs_and_neighbouring_memory_stay_as_they_are():
    query, key = inputs(pixels=700)
    before = query.clone(), key.clone()
    poisoned = torch.full((2, 4, 9, 702), math.nan, dtype=torch.float16)
    high, low = poisoned[0, 1:3, 1:8, 1:701], poisoned[1, 1:3, 1:8, 1:701]
    high.zero_(), low.zero_()
    accumulate(query, key, high, low, scale=0.4)
    assert_same(read_planes(high, low), definition(query, key, scale=0.4))
    assert int(poisoned.isnan().sum()) == poisoned.numel() - 2 * 2 * 7 * 700
    assert torch.equal(query, before[0]) and torch.equal(key, before[1])


def test_transposed_inputs_as_an_attention_processor_makes_them():
    generator = torch.Generator().manual_seed(0)
    flat_query, flat_key = (
        torch.randn(2, length, 3 * 5, generator=generator) for length in (513, 77)
    )
    query = flat_query.view(2, 513, 3, 5).transpose(1, 2)
    key = flat_key.view(2, 77, 3, 5).transpose(1, 2)
    assert not query.is_contiguous()
    assert torch.equal(run(query, key), run(query.contiguous(), key.contiguous()))
    assert_same(run(query, key), definition(query, key))


@pytest.mark.parametrize("device", ["cpu", "cuda", "xpu"])
@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_keys_are_multiplied_in_the_type_that_is_told(monkeypatch, dtype, multiplies, device):
    monkeypatch.setattr(float32_products, "device_type", lambda unused: device)
    monkeypatch.setattr(logits, "_MULTIPLIES_HALVES", multiplies)
    query, key = inputs(dtype=dtype)
    reported = logits.product_type(dtype, key.device)
    assert logits.Logits.of(query, key, 0.5).keys.dtype == reported
    assert reported == (dtype if device == "cuda" and multiplies else torch.float32)
