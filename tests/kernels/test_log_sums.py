"""Some columns of an attention from its log-sum-exp, fewer heads of keys, and boolean masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.portable import accumulate
from diffusers_rdaam.kernels.reference import attention_probabilities, head_mean_probabilities

BACKENDS = ["portable", "maps_only", "reference"]
CPU = torch.device("cpu")


def inputs(
    *, rows: int = 2, heads: int = 4, key_heads: int = 4, pixels: int = 37, columns: int = 53,
    dim: int = 8, dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, heads, pixels, dim, generator=generator) * 2.0
    key = torch.randn(rows, key_heads, columns, dim, generator=generator) * 2.0
    return query.to(dtype), key.to(dtype)


def logits(query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    products = scale * query.double() @ key.double().mT
    if mask is None:
        return products
    if mask.dtype == torch.bool:
        return products.masked_fill(~mask, -math.inf)
    return products + mask.double()


def run(
    backend: str, query: Tensor, key: Tensor, *, per_head: bool = False, **given: Any
) -> Tensor:
    heads = (query.shape[1],) if per_head else ()
    size = (query.shape[0], *heads, key.shape[2], query.shape[2])
    high, low = (torch.zeros(size, dtype=torch.float16) for _ in range(2))
    choose(backend, device=CPU).accumulate(query, key, high, low, **given)
    return read_planes(high, low)


def masks() -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(2, 1, 37, 53, generator=generator) > 0.4
    chosen[..., 50] = True
    chosen[1, :, 5] = False
    added = torch.randn(1, 4, 1, 53, generator=generator)
    added[..., 3] = -math.inf
    return {"none": None, "boolean": chosen, "added": added, "half": added.bfloat16()}


@pytest.mark.pairs
@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("part", [slice(40, 53), slice(0, 7), slice(0, 53)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_columns_of_a_joint_attention(backend, part, per_head, kind):
    (query, key), mask, scale = inputs(), masks()[kind], 0.3
    whole = logits(query, key, mask, scale)
    lse = whole.logsumexp(dim=-1).float()
    cut = None if mask is None else mask[..., part]
    maps = run(backend, query, key[:, :, part], mask=cut, scale=scale, lse=lse, per_head=per_head)
    wanted = whole.softmax(dim=-1).nan_to_num(0.0)[..., part].mT
    wanted = (wanted if per_head else wanted.mean(dim=1)).float()
    torch.testing.assert_close(maps, wanted, rtol=1e-5, atol=6e-8)
    if kind == "boolean":
        assert lse[1, :, 5].isneginf().all() and not maps[1, ..., 5].any()


@pytest.mark.parametrize("empty", [0.0, -math.inf, math.nan])
@pytest.mark.parametrize("backend", ["portable", "maps_only"])
def test_a_position_without_columns_is_zero_whatever_its_lse(backend, empty):
    """The stock kernels give 0, -inf or no number for it."""
    (query, key), mask = inputs(), masks()["boolean"]
    lse = logits(query, key, mask, 0.3).logsumexp(dim=-1).float()
    lse[1, :, 5] = empty
    maps = run(backend, query, key, mask=mask, scale=0.3, lse=lse)
    assert not maps.isnan().any() and not maps[1, ..., 5].any()
    assert (maps[0].sum(dim=0) > 0.999).all()


def test_without_a_mask_an_empty_position_is_zero():
    query, key = inputs()
    lse = logits(query, key, None, 0.3).logsumexp(dim=-1).float()
    lse[0, :, 3] = -math.inf
    for backend in BACKENDS:
        sums = run(backend, query, key, scale=0.3, lse=lse).sum(dim=1)
        assert sums[0, 3] == 0.0 and (sums[1] > 0.999).all()


@pytest.mark.parametrize("tile", [1, 36, 37, 38, 200])
def test_tiles_make_no_difference_to_log_sums(tile):
    query, key = inputs(rows=3)
    lse = logits(query, key, None, 0.3).logsumexp(dim=-1).float()
    high, low = (torch.zeros(3, 53, 37, dtype=torch.float16) for _ in range(2))
    accumulate(query, key, high, low, scale=0.3, lse=lse, tile=tile)
    wanted = head_mean_probabilities(query.double(), key.double(), scale=0.3).float()
    torch.testing.assert_close(read_planes(high, low), wanted, rtol=1e-5, atol=3e-8)


@pytest.mark.pairs
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_of_keys_that_several_queries_share(backend, key_heads, per_head, known):
    query, key = inputs(key_heads=key_heads)
    whole = logits(query, key, None, 0.3)
    lse = whole.logsumexp(dim=-1).float() if known else None
    maps = run(backend, query, key, scale=0.3, lse=lse, per_head=per_head)
    wanted = whole.softmax(dim=-1).mT
    torch.testing.assert_close(
        maps, (wanted if per_head else wanted.mean(dim=1)).float(), rtol=1e-5, atol=6e-8
    )


def test_the_reference_of_a_joint_attention_by_hand():
    query = torch.tensor([[[[2.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[math.log(3.0)]]]], dtype=torch.float64)
    lse = torch.tensor([[[math.log(12.0)]]], dtype=torch.float64)
    assert attention_probabilities(query, key, scale=0.5, lse=lse).item() == pytest.approx(0.25)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_boolean_masks(backend, rows):
    query, key = inputs()
    mask = torch.rand(rows, 1, 37, 53, generator=torch.Generator().manual_seed(2)) > 0.5
    mask[0, :, 5] = False
    maps = run(backend, query, key, mask=mask, scale=0.3)
    wanted = logits(query, key, mask, 0.3).softmax(dim=-1).nan_to_num(0.0).mean(dim=1).mT
    torch.testing.assert_close(maps, wanted.float(), rtol=1e-5, atol=6e-8)
    assert not maps[0, :, 5].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_count_goes_up_by_one(backend):
    query, key = inputs()
    count = torch.zeros(1, dtype=torch.int32)
    for _ in range(3):
        run(backend, query, key, scale=0.3, count=count)
    assert count.item() == 3
