"""The Triton kernels on a GPU: what the interpreter cannot show."""

from __future__ import annotations

import pytest
import torch

from diffusers_rdaam.kernels import blocks, fused
from diffusers_rdaam.kernels.planes import read_planes
from tests.kernels.fused_checks import (
    DEVICE,
    OUTPUT_ERROR,
    check_attend,
    check_maps_only,
    definition,
    make_planes,
    vectors,
)

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type != "cuda", reason="interpreted: test_fused_on_device.py runs these"
    ),
]


def test_the_tensors_device_and_the_current_stream():
    query = vectors(2, 8, 1024, 64, seed=0, dtype=torch.float16)
    key = vectors(2, 8, 77, 64, seed=1, dtype=torch.float16)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        query = query * 1.0
        check_maps_only(query, key)


def test_a_cuda_graph_replays():
    query, key, value = (vectors(2, 8, n, 40, seed=n, dtype=torch.float16) for n in (256, 77, 77))
    high, low, _ = make_planes(1, 77, 256)
    count = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    call = (query, key, value, high, low)
    fused.attend(*call, first=1, scale=0.2, count=count)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = fused.attend(*call, first=1, scale=0.2, count=count)
    for plane in (high, low, count):
        plane.zero_()
    for _ in range(3):
        graph.replay()
    assert int(count) == 3
    wanted = 3 * definition(query, key, scale=0.2)[1:].mean(dim=1).mT
    torch.testing.assert_close(read_planes(high, low), wanted.float(), rtol=1e-4, atol=1e-6)
    exact = definition(query, key, scale=0.2) @ value.double()
    assert (output.double() - exact).abs().max() <= OUTPUT_ERROR[torch.float16]


@pytest.mark.parametrize("size", [(2, 8, 4096, 77, 40), (2, 20, 1024, 77, 64)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sizes_of_released_models(size, dtype):
    rows, heads, positions, columns, dim = size
    query = vectors(rows, heads, positions, dim, seed=0, dtype=dtype)
    key = vectors(rows, heads, columns, dim, seed=1, dtype=dtype)
    check_attend(query, key, vectors(rows, heads, columns, dim, seed=2, dtype=dtype), first=1)


def test_the_same_sums_every_time():
    query = vectors(1, 20, 1024, 64, seed=0, dtype=torch.float16)
    key = vectors(1, 20, 77, 64, seed=1, dtype=torch.float16)
    assert blocks.for_text(1, 1024, 77, 20, 64, 2, 132, attends=False).splits > 1
    sums = []
    for _ in range(5):
        high, low, _ = make_planes(1, 77, 1024)
        fused.accumulate(query, key, high, low, scale=0.125)
        sums.append((high.clone(), low.clone()))
    assert all(torch.equal(a, b) for pair in sums for a, b in zip(pair, sums[0], strict=True))
