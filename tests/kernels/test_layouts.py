"""Queries, keys and values as they lie in memory: parts of others, transposed, at odd addresses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusers_rdaam.kernels import operator
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.planes import read_planes
from diffusers_rdaam.kernels.reference import attention_probabilities

ROWS, HEADS, PIXELS, DIM = 2, 3, 37, 5
CPU = torch.device("cpu")
Three = tuple[Tensor, Tensor, Tensor]


def packed() -> Three:
    """Three parts of one projection, as of fused projections."""
    states = torch.randn(ROWS, PIXELS, 3 * HEADS * DIM)
    return tuple(
        part.unflatten(-1, (HEADS, DIM)).transpose(1, 2) for part in states.chunk(3, dim=-1)
    )


def at_odd_addresses() -> Three:
    """One element behind where memory begins."""
    memory = torch.randn(3, ROWS * HEADS * PIXELS * DIM + 1)
    return tuple(part[1:].view(ROWS, HEADS, PIXELS, DIM) for part in memory)


def columns_first() -> Three:
    """Neighbours along the dim are no neighbours in memory."""
    return tuple(torch.randn(ROWS, HEADS, DIM, PIXELS).mT for _ in range(3))


def expanded() -> Three:
    """All rows of the keys are one."""
    query, key, value = (torch.randn(1, HEADS, PIXELS, DIM) for _ in range(3))
    return query.repeat(ROWS, 1, 1, 1), key.expand(ROWS, -1, -1, -1), value.expand(ROWS, -1, -1, -1)


LAYOUTS = [packed, at_odd_addresses, columns_first, expanded]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def narrowed(parts: Three, dtype: torch.dtype) -> Three:
    """In another type, as they lie."""
    narrow = []
    for part in parts:
        # ``to`` would put an expanded or odd one in order.
        memory = torch.empty(part.untyped_storage().nbytes() // 4, dtype=dtype)
        memory.copy_(torch.tensor(part.untyped_storage(), dtype=torch.uint8).view(torch.float32))
        narrow.append(memory.as_strided(part.size(), part.stride(), part.storage_offset()))
    return tuple(narrow)


@pytest.mark.pairs
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["portable", "maps_only", "reference"])
def test_maps(backend, layout, dtype, known):
    torch.manual_seed(0)
    query, key, _ = narrowed(layout(), dtype)
    whole = 0.4 * query.double() @ key.double().mT
    lse = whole.logsumexp(dim=-1).float().transpose(1, 2).contiguous().transpose(1, 2)
    high, low = (torch.zeros(ROWS, PIXELS, PIXELS, dtype=torch.float16) for _ in range(2))
    accumulate = choose(backend, device=CPU).accumulate
    accumulate(query, key, high, low, scale=0.4, lse=lse if known else None)
    wanted = whole.softmax(dim=-1).mean(dim=1).mT.float()
    torch.testing.assert_close(read_planes(high, low), wanted, rtol=1e-5, atol=6e-8)


@pytest.mark.values
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_output_and_maps_in_one_pass(layout, dtype):
    torch.manual_seed(0)
    query, key, value = narrowed(layout(), dtype)
    high, low = (torch.zeros(1, PIXELS, PIXELS, dtype=torch.float16) for _ in range(2))
    output = operator.attend(query, key, value, high, low, first=1, scale=0.4)
    maps = attention_probabilities(query.double(), key.double(), scale=0.4)
    torch.testing.assert_close(
        read_planes(high, low), maps[1:].mean(dim=1).mT.float(), rtol=1e-5, atol=6e-8
    )
    assert output.dtype == dtype and output.transpose(1, 2).is_contiguous()
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(output.double(), maps @ value.double(), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("backend", ["portable", "maps_only", "reference"])
def test_planes_that_are_parts_of_others(backend):
    torch.manual_seed(0)
    query, key, _ = packed()
    poisoned = torch.full((2, 4, PIXELS + 2, PIXELS + 1), torch.nan, dtype=torch.float16)
    high, low = poisoned[0, 1:3, 1:-1, 1:], poisoned[1, 1:3, 1:-1, 1:]
    high.zero_(), low.zero_()
    choose(backend, device=CPU).accumulate(query, key, high, low, scale=0.4)
    wanted = attention_probabilities(query.double(), key.double(), scale=0.4).mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=1e-5, atol=6e-8)
    assert int(poisoned.isnan().sum()) == poisoned.numel() - 2 * ROWS * PIXELS * PIXELS
