"""The least work of kernels, their floors, and the kernel that measures exponentials."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from benchmarks import roofline
from benchmarks.ceilings import Ceilings, Work
from benchmarks.roofline import Site
from benchmarks.sizes import SD15, SDXL
from benchmarks.timing import Sample
from diffusers_rdaam.kernels import logits

SITE = Site("toy", 48, 2, 16, 3)
CEILINGS = Ceilings(1e9, {torch.float32: 4e9, torch.float16: 8e9}, 2e9)
NO_TRITON = importlib.util.find_spec("triton") is None


def test_the_sites_are_those_of_the_models() -> None:
    sites = roofline.sites_of(SD15)
    assert [(s.positions, s.heads, s.dim, s.count) for s in sites] == [
        (4096, 8, 40, 5),
        (1024, 8, 80, 5),
        (256, 8, 160, 5),
        (64, 8, 160, 1),
    ]
    sites = roofline.sites_of(SDXL)
    assert [(s.positions, s.heads, s.dim, s.count) for s in sites] == [
        (4096, 10, 64, 10),
        (1024, 20, 64, 60),
    ]


def test_the_least_work_of_each_kernel() -> None:
    # 2 heads x 48 positions x 16 channels; 77 columns; two planes of 2 bytes, read and written.
    query, key, cells, planes = 1536, 2464, 2 * 48 * 77, 48 * 77 * 8
    stock = SITE.work("stock SDPA", torch.float16, "cpu")
    assert stock == Work(2 * 2 * (query + key) * 2, 2 * 4 * cells * 16, 2 * cells, torch.float16)
    fused = SITE.work("fused.attend", torch.float16, "cpu")
    assert fused == Work(stock.nbytes + planes, stock.flops, stock.exps, torch.float16)
    maps = SITE.work("fused.accumulate", torch.float16, "cpu")
    assert maps == Work((query + key) * 2 + planes, 2 * cells * 16, cells, torch.float16)


def test_the_portable_kernel_is_held_against_the_products_that_it_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def product(dtype: torch.dtype, device: str) -> torch.dtype:
        return SITE.work("portable.accumulate", dtype, device).dtype

    monkeypatch.setattr(logits, "_MULTIPLIES_HALVES", True)
    assert product(torch.float16, "cuda") == torch.float16
    assert product(torch.float32, "cuda") == product(torch.float16, "cpu") == torch.float32
    monkeypatch.setattr(logits, "_MULTIPLIES_HALVES", False)
    assert product(torch.float16, "cuda") == torch.float32


def test_a_floor_is_what_each_kind_of_work_takes() -> None:
    floors = Work(500, 4000, 1000, torch.float16).floors(CEILINGS)
    assert floors == {"memory": 5e-7, "matrix": 5e-7, "exponentials": 5e-7}


def test_the_table_has_shares_of_the_ceilings() -> None:
    work = SITE.work("portable.accumulate", torch.float32, "cpu")
    floors = work.floors(CEILINGS)
    assert max(floors.values()) == floors["matrix"]
    taken = {"portable.accumulate": Sample((4 * floors["matrix"],))}
    table = roofline._table([(SITE, taken)], CEILINGS, torch.float32, "cpu", how="here")
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["time / floor"] == "4.00"
    assert row["GFLOP/s (of ceiling)"] == "1 (25.0%)"
    assert row["floor"].endswith("ms (matrix)")


def test_goals_of_a_gpu_are_skipped_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "measure", lambda *unused: CEILINGS)
    monkeypatch.setattr(roofline, "ROUNDS", {"cpu": 1})
    rows = roofline.run(device="cpu")
    goals = [row for row in rows if row.goal]
    assert [row.status for row in goals] == ["SKIP"] * 4
    assert {row.measured for row in goals} == {"not measured: no CUDA device"}
    assert len(roofline.tables()[0].rows) == 12


def test_goals_are_judged_by_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "LARGE", SITE.positions)
    floor = max(SITE.work("fused.attend", torch.float16, "cpu").floors(CEILINGS).values())
    taken = {"stock SDPA": Sample((1.0, 2.0, 3.0)), "fused.attend": Sample((1.1, 2.2, 9.0))}
    call, kernel = roofline._goal_rows([(SITE, taken)], CEILINGS, torch.float16, None)
    assert (call.measured, call.status) == ("1.100 (1.100 to 3.000)", "PASS")
    assert kernel.status == "FAIL"
    taken["fused.attend"] = Sample((1.3 * floor,) * 3)
    _, kernel = roofline._goal_rows([(SITE, taken)], CEILINGS, torch.float16, None)
    assert (kernel.measured, kernel.status) == ("1.30", "PASS")


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import ceilings
    from benchmarks.timing import ThreadClock

    monkeypatch.setattr(ceilings, "ELEMENTS", {"cpu": 2**16})
    monkeypatch.setattr(ceilings, "SIDE", {"cpu": 64})
    found = ceilings.measure("cpu", [torch.float32], ThreadClock())
    assert found.bandwidth > 1e8
    assert found.flops[torch.float32] > 1e8
    assert found.exps > 1e7


INTERPRETED = """
import torch
from benchmarks.exp_kernel import exponentials
torch.set_num_threads(1)
numbers = torch.rand(256)
wanted = numbers.clone()
for _ in range(5):
    wanted = torch.exp2(-wanted)
exponentials[(2,)](numbers, 128, 5)
torch.testing.assert_close(numbers, wanted)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from benchmarks.exp_kernel import BLOCK, STEPS, exponentials
names = {"numbers": "*fp32", "block": "constexpr", "steps": "constexpr"}
source = ASTSource(exponentials, names, constexprs={"block": BLOCK, "steps": STEPS})
text = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
loop = text[text.index("$L__BB0_1:"):text.index("bra")]
assert loop.count("ex2.approx") == BLOCK // 128, text
assert "ld.global" not in loop and "st.global" not in loop, text
"""

FUSED = """
import torch
from benchmarks.roofline import Site, _calls
from diffusers_rdaam.kernels import fused
torch.set_num_threads(1)
calls = dict(_calls(Site("toy", 48, 2, 16, 3), "cpu", torch.float32, fused))
assert list(calls)[2:] == ["fused.accumulate", "fused.attend"]
calls["fused.accumulate"]()
torch.testing.assert_close(calls["fused.attend"](), calls["stock SDPA"](), atol=1e-5, rtol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.skipif(NO_TRITON, reason="Triton is not installed")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(INTERPRETED, id="interpreted"),
        pytest.param(COMPILED, id="compiled"),
        pytest.param(FUSED, id="fused"),
    ],
)
def test_triton_kernels_without_a_gpu(program: str) -> None:
    interpret = {"TRITON_INTERPRET": "0" if program is COMPILED else "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=os.environ | interpret, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
