"""The kernels inside compiled code: one graph for every size, and the same sums."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from diffusers_rdaam.kernels import operator, portable
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.reference import attention_probabilities

CPU = torch.device("cpu")


def inputs(pixels: int, *, masked: bool) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(pixels)
    return {
        "query": torch.randn(2, 3, pixels, 8, generator=generator),
        "key": torch.randn(2, 3, 11, 8, generator=generator),
        "mask": torch.randn(2, 1, 1, 11, generator=generator) if masked else None,
    }


@pytest.fixture
def counter() -> CompileCounter:
    torch._dynamo.reset()
    return CompileCounter()


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_one_graph_for_all_sizes_and_the_sums_of_the_portable_kernel(pair, masked, counter):
    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def step(query, key, mask, high, low, count):
        operator.accumulate(query * 2, key, high, low, mask=mask, scale=0.3, count=count)
        return query + 1

    for pixels in (35, 700, 3000):
        given = inputs(pixels, masked=masked)
        count = torch.zeros(1, dtype=torch.int32)
        planes = torch.zeros(2, 2, 2, 11, pixels, dtype=torch.float16)
        low = (planes[0, 1], planes[1, 1]) if pair else (None, None)
        for _ in range(2):
            step(**given, high=planes[0, 0], low=low[0], count=count)
            given_twice = given | {"query": given["query"] * 2}
            portable.accumulate(**given_twice, high=planes[1, 0], low=low[1], scale=0.3)
        assert planes[1, 0].any() and torch.equal(planes[0], planes[1])
        assert count.item() == 2
    assert counter.frame_count == 1


@pytest.mark.values
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dim", [8, 264])
def test_one_graph_of_the_kernel_of_the_maps_only(dim, known, counter):
    """Also where it does not serve the call: that is seen when the graph runs."""
    choice = choose("maps_only", device=CPU)

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def step(query, key, high, low, lse, count):
        choice.accumulate(query, key, high, low, scale=0.1, lse=lse, count=count)
        return query + 1

    for pixels in (5, 9, 20):
        query, key = (torch.randn(2, 2, n, dim) for n in (pixels, 7))
        lse = (0.1 * query @ key.mT).logsumexp(dim=-1) if known else None
        count = torch.zeros(1, dtype=torch.int32)
        planes = torch.zeros(2, 2, 7, pixels, dtype=torch.float16)
        for _ in range(2):
            step(query, key, planes[0], planes[1], lse, count)
        eager = torch.zeros_like(planes)
        for _ in range(2):
            choice.accumulate(query, key, eager[0], eager[1], scale=0.1, lse=lse)
        assert eager.any() and torch.equal(planes, eager) and count.item() == 2
    assert counter.frame_count == 1


@pytest.mark.values
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("dim", [8, 264])
def test_one_graph_of_the_fused_attention(dim, key_heads, masked, counter):
    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def step(query, key, value, high, low, mask, count):
        attended = operator.attend(
            query, key, value, high, low, first=1, mask=mask, scale=0.1, count=count
        )
        return attended.transpose(1, 2).flatten(2) + 1

    for pixels in (5, 9, 20):
        query = torch.randn(2, 2, pixels, dim)
        key, value = torch.randn(2, 2, key_heads, 7, dim)
        mask = torch.randn(2, 1, 1, 7) if masked else None
        count = torch.zeros(1, dtype=torch.int32)
        high, low = torch.zeros(2, 1, 7, pixels, dtype=torch.float16)
        output = step(query, key, value, high, low, mask, count)
        maps = attention_probabilities(query, key, mask=mask, scale=0.1)
        values = value.repeat_interleave(2 // key_heads, dim=1)
        wanted = (maps @ values).transpose(1, 2).flatten(2) + 1
        torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-5)
        sums = high.float() + low.float() / 2048
        torch.testing.assert_close(sums, maps[1:].mean(dim=1).mT, rtol=1e-5, atol=1e-6)
        assert count.item() == 1
    assert counter.frame_count == 1


def arguments(name: str, *, full: bool, dim: int = 4) -> tuple[Any, ...]:
    query, key, value = (torch.randn(2, 2, n, dim) for n in (5, 7, 7))
    high, low = torch.zeros(2, 2 if name != "attend" else 1, 7, 5, dtype=torch.float16)
    mask = torch.randn(2, 1, 1, 7) if full else None
    lse = torch.randn(2, 2, 5) if full else None
    count = torch.zeros(1, dtype=torch.int32) if full else None
    low = low if full else None
    if name == "attend":
        return (query, key, value, high, low, count, 1, mask, 0.5)
    return (query, key, high, low, mask, 0.5, lse, count)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", ["accumulate", "maps_only", "attend"])
def test_operators_are_what_they_declare(name, full):
    operator_of = getattr(torch.ops.diffusers_rdaam, name).default
    torch.library.opcheck(operator_of, arguments(name, full=full))


@pytest.mark.parametrize("dim", [4, 264])
def test_the_fused_kernels_output_lies_as_it_is_declared(dim):
    """Also where another kernel serves the call."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    given = arguments("attend", full=True, dim=dim)
    real = torch.ops.diffusers_rdaam.attend(*given)
    with FakeTensorMode() as mode:
        fake = torch.ops.diffusers_rdaam.attend(
            *(mode.from_tensor(part) if isinstance(part, Tensor) else part for part in given)
        )
    assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())
    assert real.stride() == (10 * dim, dim, 2 * dim, 1)
