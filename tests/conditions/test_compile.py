"""torch.compile: one graph, never a second one for another step or run, and the eager maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from cell import arrays, fresh
from oracle import check, watched
from torch._dynamo.utils import counters
from toys import CASES, SITES, call

from diffusers_rdaam import RDAAMProcessor

CASE = CASES["StableDiffusion"]


@pytest.fixture(autouse=True)
def no_graphs() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def run(pipe: Any, **settings: Any) -> Any:
    return call(CASE, pipe, output_type="latent", **settings)


def by_method(pipe: Any) -> None:
    pipe.unet.compile(fullgraph=True, backend="aot_eager")


def by_wrapper(pipe: Any) -> None:
    pipe.unet = torch.compile(pipe.unet, fullgraph=True, backend="eager")


@pytest.mark.parametrize(
    ("compile_unet", "order"),
    [pytest.param(by_method, "before", marks=pytest.mark.slow), (by_wrapper, "after")],
)
def test_one_graph_for_all_steps_and_runs(compile_unet: Callable[..., None], order: str):
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    with watched(stock) as seen:
        wanted = run(stock, num_inference_steps=3)
    if order == "before":
        compile_unet(ours)
    ours.set_attn_processor(RDAAMProcessor())
    if order == "after":
        compile_unet(ours)
    output = run(ours, num_inference_steps=3)
    assert graphs() == 1 and not counters["graph_break"]
    assert torch.equal(output.images, wanted.images)
    check(output.attributions, seen, SITES)
    with torch.compiler.set_stance("fail_on_recompile"):
        again = run(ours, num_inference_steps=3)
        longer = run(ours, num_inference_steps=5, seed=8)
    assert torch.equal(again.images, wanted.images)
    check(again.attributions, seen, SITES)
    assert [grid.additions for grid in longer.attribution.grids] == [5 * SITES]
    assert graphs() == 1


@pytest.mark.slow
def test_one_graph_with_self_attention():
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    wanted = run(stock, num_inference_steps=3)
    eager = fresh(CASE, CASE.ours)
    eager.set_attn_processor(RDAAMProcessor(self_attention=True))
    kept = run(eager, num_inference_steps=3) and eager.attribution.self_grids[0]
    ours.set_attn_processor(RDAAMProcessor(self_attention=True))
    by_method(ours)
    output = run(ours, num_inference_steps=3)
    assert graphs() == 1 and not counters["graph_break"]
    assert torch.equal(output.images, wanted.images)
    torch.testing.assert_close(output.attribution.self_grids[0].sums, kept.sums)
    with torch.compiler.set_stance("fail_on_recompile"):
        again = run(ours, num_inference_steps=3)
        longer = run(ours, num_inference_steps=5, seed=8)
    assert torch.equal(again.attribution.self_grids[0].sums, output.attribution.self_grids[0].sums)
    (grid,) = longer.attribution.self_grids
    assert grid.additions == 5 * len(grid.sites) == 5
    assert graphs() == 1


@pytest.mark.slow
def test_two_sizes_in_one_dynamic_graph():
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    ours.unet.compile(fullgraph=True, backend="eager", dynamic=True)
    stance = "default"
    for size in ({"height": 64, "width": 96}, {"height": 80, "width": 112}) * 2:
        with watched(stock) as seen:
            wanted = run(stock, **size)
        with torch.compiler.set_stance(stance):
            output = run(ours, **size)
        assert torch.equal(output.images, wanted.images)
        check(output.attributions, seen, SITES)
        stance = "fail_on_recompile"
    assert graphs() == 1 and not counters["graph_break"]


@pytest.mark.slow
def test_repeated_blocks_with_the_default_compiler():
    """The compiled stock image bit for bit; blocks are compiled once for each of their shapes."""
    stock, ours = fresh(CASE, CASE.stock), fresh(CASE, CASE.ours)
    plain = fresh(CASE, CASE.stock)
    with watched(plain) as seen:
        run(plain)
    stock.unet.compile_repeated_blocks(fullgraph=True)
    wanted = run(stock)
    of_stock = graphs()
    torch.compiler.reset()
    counters.clear()
    ours.unet.compile_repeated_blocks(fullgraph=True)
    output = run(ours)
    assert torch.equal(output.images, wanted.images)
    check(output.attributions, seen, SITES)
    assert graphs() == of_stock and not counters["graph_break"]
    with torch.compiler.set_stance("fail_on_recompile"):
        assert np.array_equal(arrays(run(ours)), arrays(output))
