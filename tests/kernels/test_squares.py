"""Sums of squared probabilities against the definition in float64, where they are tiny."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import operator
from diffusers_rdaam.kernels.portable import accumulate_squares
from diffusers_rdaam.kernels.reference import attention_probabilities


def inputs(*, rows=3, heads=2, pixels=70, tokens=77, dim=40, seed=0, strength=1.0):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, heads, pixels, dim, generator=generator) * strength
    key = torch.randn(rows, heads, tokens, dim, generator=generator) * strength
    return query, key


def mean_squares(query, key, **options) -> torch.Tensor:
    """The mean over the heads of ``P * P``, float64 ``(rows, tokens, pixels)``."""
    maps = attention_probabilities(query.double(), key.double(), scale=40**-0.5, **options)
    return maps.square().mean(dim=1).mT


def plane(query, key, rows=None) -> torch.Tensor:
    return torch.zeros(rows or query.shape[0], key.shape[2], query.shape[2])


@pytest.mark.parametrize("tile", [None, 1, 64])
@pytest.mark.parametrize("heads", [1, 2])
def test_agrees_with_the_definition(heads, tile):
    query, key = inputs(heads=heads)
    squares, count = plane(query, key), torch.zeros(1, dtype=torch.int32)
    accumulate_squares(query, key, squares, scale=40**-0.5, count=count, tile=tile)
    torch.testing.assert_close(squares.double(), mean_squares(query, key), rtol=1e-5, atol=0.0)
    assert int(count) == 1


def test_probabilities_of_1e_minus_5_after_a_thousand_calls():
    """Their squares are 1e-10, of which half precision holds nothing."""
    query, key = inputs(rows=1, heads=1, pixels=8, strength=2.0)
    wanted = mean_squares(query, key)
    tiny = (wanted.sqrt() > 3e-6) & (wanted.sqrt() < 3e-5)
    assert int(tiny.sum()) > 20 and wanted.half()[tiny].eq(0).float().mean() > 0.9
    squares = plane(query, key)
    for _ in range(1000):
        accumulate_squares(query, key, squares, scale=40**-0.5)
    torch.testing.assert_close(squares[tiny].double() / 1000, wanted[tiny], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("first", [None, 1])
def test_masks_log_sums_and_some_of_the_rows(first):
    query, key = inputs()
    mask = torch.zeros(3, 1, 1, 77).masked_fill(torch.arange(77) > 50, -torch.inf)
    rows = slice(first or 0, (first or 0) + 2) if first else slice(None)
    squares = plane(query, key, rows=2 if first else 3)
    accumulate_squares(query, key, squares, mask=mask, scale=40**-0.5, first=first)
    wanted = mean_squares(query, key, mask=mask.double())[rows]
    torch.testing.assert_close(squares.double(), wanted, rtol=1e-5, atol=1e-30)
    lse = (query.double() @ key.double().mT * 40**-0.5).logsumexp(dim=-1)
    some = plane(query, key[:, :, :9], rows=2 if first else 3)
    operator.accumulate_squares(
        query, key[:, :, :9], some, scale=40**-0.5, lse=lse.float(), first=first
    )
    wanted = mean_squares(query, key)[rows, :9]
    torch.testing.assert_close(some.double(), wanted, rtol=1e-5, atol=0.0)


def test_planes_that_are_not_for_squares(types_unchecked):
    query, key = inputs()
    with pytest.raises(InputError, match=r"must be torch\.float32 \(rows, columns, positions\)"):
        accumulate_squares(query, key, plane(query, key).half(), scale=1.0)
    with pytest.raises(InputError, match="The planes have shape"):
        accumulate_squares(query, key, torch.zeros(3, 7, 70), scale=1.0)
