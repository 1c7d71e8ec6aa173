"""The kernel inside compiled code: one graph for every size, and the same sums."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from diffusers_rdaam.kernels import operator, portable


def inputs(pixels: int, *, masked: bool) -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(pixels)
    return {
        "query": torch.randn(2, 3, pixels, 8, generator=generator),
        "key": torch.randn(2, 3, 11, 8, generator=generator),
        "mask": torch.randn(2, 1, 1, 11, generator=generator) if masked else None,
    }


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_one_graph_for_all_sizes_and_the_sums_of_the_portable_kernel(pair, masked):
    torch._dynamo.reset()
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True, dynamic=True)
    def step(query, key, mask, high, low):
        operator.accumulate(query * 2, key, high, low, mask=mask, scale=0.3)
        return query + 1

    for pixels in (35, 700, 3000):
        given = inputs(pixels, masked=masked)
        planes = torch.zeros(2, 2, 2, 11, pixels, dtype=torch.float16)
        low = (planes[0, 1], planes[1, 1]) if pair else (None, None)
        for _ in range(2):
            step(**given, high=planes[0, 0], low=low[0])
            given_twice = given | {"query": given["query"] * 2}
            portable.accumulate(**given_twice, high=planes[1, 0], low=low[1], scale=0.3)
        assert planes[1, 0].any() and torch.equal(planes[0], planes[1])
    assert counter.frame_count == 1
