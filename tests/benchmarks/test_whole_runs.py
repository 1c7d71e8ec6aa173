"""Runs of whole UNets: a narrow one on the processor goes the way of the large ones on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend

from benchmarks import gpu, gpu_rows, whole_unet
from benchmarks.sizes import SD15, unet_without_memory
from benchmarks.timing import Sample, interleaved
from benchmarks.whole_unet import WholeUNet
from diffusers_rdaam import RDAAMProcessor

NARROW = replace(SD15, config=SD15.config | SD15.narrow, latent=(8, 12))


@pytest.fixture(scope="module")
def whole() -> Iterator[WholeUNet]:
    """Two calls a run."""
    templates = {"portable": RDAAMProcessor(backend="portable")}
    unet = unet_without_memory(NARROW)
    yield WholeUNet(unet, NARROW, templates, dtype=torch.bfloat16, calls=2)


def test_runs_are_recorded_and_equal(whole: WholeUNet) -> None:
    taken = interleaved(whole.runs(), rounds=1, warm_up=False)
    assert list(taken) == ["stock", "portable"]
    assert whole.outputs["stock"].dtype == torch.bfloat16
    assert torch.equal(whole.outputs["stock"], whole.outputs["portable"])
    assert all(len(seconds) == 1 for seconds in whole.inside.values())


def test_a_run_that_is_not_recorded_is_no_result(whole: WholeUNet) -> None:
    hook = whole.unet.register_forward_pre_hook(lambda *unused: setattr(whole, "calls", 5))
    try:
        with pytest.raises(RuntimeError, match="2 of 5 calls were recorded"):
            whole.run("portable")
    finally:
        hook.remove()
        whole.calls = 2


def test_two_stock_kernels_are_apart(whole: WholeUNet) -> None:
    kernels = (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)
    difference = gpu.difference_of_stock_kernels(whole, kernels)
    assert difference is not None
    assert 0 < difference < 0.1
    same = gpu.difference_of_stock_kernels(whole, (SDPBackend.MATH, SDPBackend.MATH))
    assert same == 0


def test_a_stock_kernel_that_does_not_serve_gives_no_goal(whole: WholeUNet) -> None:
    kernels = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)
    if torch.cuda.is_available():
        pytest.skip("the other kernel may be there")
    assert gpu.difference_of_stock_kernels(whole, kernels) is None


def test_rows_of_runs_are_judged() -> None:
    taken = {"stock": Sample((1.0,)), "portable": Sample((1.15,)), "fused": Sample((1.02,))}
    peaks = {"stock": 10**9, "portable": 10**9 + 3_000_000, "fused": 10**9 + 5_000_000}
    stock = torch.tensor([1.0, 2.0])
    outputs = {"stock": stock, "portable": stock.clone(), "fused": stock + 0.01}
    rows = gpu_rows.rows_of_runs("runs", taken, peaks, outputs, 0.004)
    assert [row.status for row in rows] == ["PASS", "PASS", "PASS", "FAIL", "FAIL", "FAIL"]
    assert rows[0].measured == "stock 1 s, portable 1.15 s, ratio 1.150"
    assert rows[4].measured == "5.00 MB on 1,000 MB"
    assert rows[5].measured == "different by 5.0e-03 of the largest value"
    outputs["portable"][0] += 1
    rows = gpu_rows.rows_of_runs("runs", taken, peaks, outputs, None)
    assert [rows[2].status, rows[5].status] == ["FAIL", "-"]
    assert rows[2].deterministic


def test_every_goal_of_a_gpu_is_a_row_without_one() -> None:
    rows = gpu.run(device="cpu")
    assert {row.status for row in rows} == {"SKIP"}
    assert {row.measured for row in rows} == {"not measured: no CUDA device"}
    goals = [row.goal for row in rows]
    assert {goal: goals.count(goal) for goal in goals} == {
        "at most 1.15": 2,
        "at most 1.08": 2,
        "at most 1.03": 2,
        "at most 1.01": 4,
        "at most 4 MB": 6,
        "at most 8 MB besides the planes": 4,
        "at most 0.0001": 6,
        # The portable kernel's first run, and the eager runs of "maps_only".
        # One of them is that of joint attention's blocks.
        "": 5,
    }
    times = [row.what for row in rows if "run time" in row.what]
    assert all("host included" in what or "under CUDA graphs" in what for what in times)


def test_on_the_processor_the_ratio_may_have_a_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    found = whole_unet.whole_unet("toy", NARROW, rounds=1, goal=100.0)
    assert [row.status for row in found] == ["PASS", "-", "PASS"]
    assert found[0].goal == "at most 100"
    assert "parameters, fp32" in found[0].what
    judged, control, *_ = whole_unet.whole_unet("toy", NARROW, rounds=2)
    assert "stock" in judged.measured and "stock again" in control.measured
    monkeypatch.setattr(whole_unet, "free_bytes", lambda device: 10**9)
    (row,) = whole_unet.whole_unet("toy", SD15, rounds=1)
    assert (row.status, row.measured) == ("SKIP", "5 GB of memory needed, 1 GB free")
