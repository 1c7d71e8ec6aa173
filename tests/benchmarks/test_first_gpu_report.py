"""The report of the first run on a GPU: what was measured beside what was expected."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu, roofline
from benchmarks.ceilings import Ceilings
from benchmarks.first_gpu.expected import EXPECTED, Expectation, beside_expected
from benchmarks.first_gpu.outcome import CommandOutcome, StepOutcome
from benchmarks.first_gpu.profiled_call import Profile, rows
from benchmarks.first_gpu.report import Report
from benchmarks.report import Row
from benchmarks.timing import Sample

BACKENDS = ("portable", "maps_only", "fused")


def measured(commands: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Measured and verdict of what was measured, by name."""
    return {
        entry["what"]: (entry["measured"], entry["verdict"])
        for entry in beside_expected(commands)
        if entry["measured"] != "not measured"
    }


def of(*found: Row, tables: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    return [{"rows": [asdict(row) for row in found], "tables": tables or []}]


def test_ratios_of_whole_runs_as_the_benchmark_writes_them():
    seconds = {"stock": 1.0, "portable": 1.2, "maps_only": 1.05, "fused": 0.99}
    taken = {name: Sample((time,)) for name, time in seconds.items()}
    peaks = {"stock": 5_000_000_000, "portable": 5_002_000_000}
    peaks |= {"maps_only": 5_009_000_000, "fused": 5_000_000_000}
    output = dict.fromkeys(seconds, torch.ones(2))
    what = "SD1.5 512x512, 860 million parameters, fp16, runs of 10 UNet calls"
    found = measured(of(*gpu.rows_of_runs(what, taken, peaks, output, 1e-3)))
    assert {name: found[f"SD1.5, {name}, run / stock"][0] for name in BACKENDS} == {
        **{"portable": "1.2", "maps_only": "1.05", "fused": "0.99"}
    }
    assert found["SD1.5, maps_only, run / stock"][1] == "as expected"
    assert found["SD1.5, portable, run / stock"][1].startswith("above: more than launches")
    assert found["SD1.5, fused, run / stock"][1].startswith("below: the clock drifted")
    assert found["SD1.5, portable, peak memory over stock"] == ("2 MB", "as expected")
    assert found["SD1.5, maps_only, peak memory over stock"][1].startswith("above: logits")
    assert len(found) == 6


def test_runs_from_cuda_graphs_are_not_taken_for_others():
    text = "SDXL 1024x1024, runs of 10 UNet calls, CUDA graphs, backend 'maps_only'"
    row = Row("gpu", text, "stock 1 s, maps_only 1.02 s, ratio 1.020 (1.01 to 1.03)")
    assert measured(of(row)) == {
        "SDXL, maps_only, run / stock, CUDA graphs": ("1.02", "as expected")
    }
    skipped = Row("gpu", text, "not measured: ratio 1.0", status="SKIP")
    other = Row("cost", text, "ratio 1.020")
    assert measured(of(skipped, other)) == {}


def test_times_of_kernels_as_roofline_writes_them():
    site = roofline.Site("SD1.5", 4096, 8, 40, 5)
    times = {"stock SDPA": 10e-6, "fused.accumulate": 7e-6, "fused.attend": 30e-6}
    taken = {name: Sample((seconds,)) for name, seconds in times.items()}
    half = torch.float16
    ceilings = Ceilings(bandwidth=3.0e12, flops={half: 7.5e14}, exps=3.7e12)
    table = roofline._table([(site, taken)], ceilings, half, "cuda", how="events")
    found_rows = roofline._ceiling_rows(ceilings, "cuda")
    found = measured(of(*found_rows, tables=[asdict(table) | {"benchmark": "roofline"}]))
    assert found["SD1.5, stock SDPA at 64x64"] == ("10 us", "as expected")
    assert found["SD1.5, fused.accumulate at 64x64"] == ("7 us", "below")
    assert found["SD1.5, fused.attend at 64x64"][1].startswith("above: one program")
    assert found["memory bandwidth"] == ("3000 GB/s", "as expected")
    assert found["half-precision products"] == ("750000 GFLOP/s", "as expected")


def test_device_time_of_a_profiled_call():
    profile = Profile({"attend_to_text": 70, "fold_shares": 0}, {"attend_to_text": 2e-3}, 1.0, 0, 0)
    found = measured(of(*rows("SDXL", 70, profile, profile)))
    assert found["SDXL, recording kernels of a call"][0] == "2 ms"
    assert found["SDXL, recording kernels of a call"][1].startswith("above: the kernel is slower")


def test_what_was_not_measured_says_so():
    assert {entry["measured"] for entry in beside_expected([])} == {"not measured"}
    assert len(beside_expected([])) == len(EXPECTED) > 20
    assert len({expected.name for expected in EXPECTED}) == len(EXPECTED)


def test_a_number_with_thousands_is_one():
    expected = Expectation("x", "toy", ("cats",), r"(\d[\d,]*(?:\.\d+)?)", 1, 2)
    assert expected.found_in("toy", "All CATS", "12,345.5 us") == 12345.5
    assert expected.found_in("toy", "all cats", "none") is None
    assert expected.found_in("toy", "dogs", "1") is None


def report(folder: Path, **facts: str) -> Report:
    row = asdict(Row("gpu", "a | cell", "1", "2", "FAIL"))
    commands = [
        CommandOutcome("good", "python -m good", "passed", "3 passed", 1.0, 20.0, "01_good.txt"),
        CommandOutcome("bad", "python -m bad", "FAILED", "exit status 1", 2.0, 20.0, "01_bad.txt"),
    ]
    commands[0].rows = [row]
    commands[0].tables = [{"title": "Times", "columns": ["kernel"], "rows": [["fused"]]}]
    commands[1].tail = "```\n# not a heading\nKeyError"
    steps = [StepOutcome(1, "kernels", commands), StepOutcome(2, "later", [CommandOutcome("c")])]
    return Report(folder, facts, 1500.0, steps)


def test_both_files_say_the_same(tmp_path: Path):
    report(tmp_path, device="cuda", name="NVIDIA H100 80GB HBM3", commit="0123456").write()
    text = (tmp_path / "first_gpu.md").read_text()
    stored = json.loads((tmp_path / "first_gpu.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first_gpu.json", "first_gpu.md"]
    for part in (
        "device cuda, name NVIDIA H100 80GB HBM3, commit 0123456",
        "Steps: 1 FAILED, 1 not reached. 3 s of 1500 s.",
        "| 1 | kernels | FAILED | 3 | good passed: 3 passed; bad FAILED: exit status 1 |",
        "| a \\| cell | 1 | 2 | FAIL |",
        "**Times**",
        "    ```\n    # not a heading\n    KeyError",
        "    python -m bad",
        "output in `01_bad.txt`",
        "made before any GPU had run this.\n",
    ):
        assert part in text, part
    assert stored["header"]["commit"] == "0123456" and stored["seconds"] == 3.0
    assert [step["result"] for step in stored["steps"]] == ["FAILED", "not reached"]
    assert stored["steps"][0]["commands"][1]["tail"].endswith("KeyError")
    assert stored["expected_for"] == "H100" and len(stored["ratios"]) == len(EXPECTED)


def test_expectations_of_another_device_say_so(tmp_path: Path):
    assert (
        "this is an NVIDIA L4, of which they say less"
        in report(tmp_path, name="NVIDIA L4").as_markdown()
    )
    assert "there is no CUDA device here" in report(tmp_path).as_markdown()
