"""The log-sum-exp in tiles is float64's, whatever the mask, the grouping of heads and the type."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.kernels import log_sum_exp as module
from diffusers_rdaam.kernels.log_sum_exp import log_sum_exp


def wanted(query, key, mask, scale):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = query.double() @ key.double().mT * scale
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask.double()
    return logits.logsumexp(dim=-1)


def masks(rows, positions, columns):
    generator = torch.Generator().manual_seed(5)
    kept = torch.rand(rows, 1, 1, columns, generator=generator) > 0.3
    kept[..., 0] = True
    added = torch.zeros(1, 1, positions, columns)
    added[..., 2::3] = -10_000.0
    return {"none": None, "boolean": kept, "added": added, "zero and one": kept.float()}


@pytest.mark.parametrize("name", ["none", "boolean", "added", "zero and one"])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("tile", [None, 5])
def test_it_is_that_of_float64(monkeypatch, name, key_heads, tile):
    if tile is not None:
        monkeypatch.setattr(module, "tile_positions", lambda cells, device: tile)
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(3, 4, 13, 8, generator=generator)
    key = torch.randn(3, key_heads, 11, 8, generator=generator)
    mask = masks(3, 13, 11)[name]
    found = log_sum_exp(query, key, mask=mask, scale=0.7)
    assert found.dtype == torch.float32 and found.shape == (3, 4, 13)
    torch.testing.assert_close(found.double(), wanted(query, key, mask, 0.7), rtol=0, atol=2e-6)


def test_halves_are_multiplied_in_float32():
    generator = torch.Generator().manual_seed(2)
    query, key = (torch.randn(1, 2, 9, 16, generator=generator).bfloat16() * 3 for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_sum_exp(query, key, scale=1.0)
    torch.testing.assert_close(found.double(), wanted(query, key, None, 1.0), rtol=1e-6, atol=1e-5)


def test_a_position_without_a_column_attends_to_nothing():
    query, key = torch.ones(1, 1, 2, 4), torch.ones(1, 1, 3, 4)
    mask = torch.tensor([[True, True, True], [False, False, False]])[None, None]
    found = log_sum_exp(query, key, mask=mask, scale=1.0)
    assert found[0, 0, 0].isfinite() and found[0, 0, 1] == -torch.inf
