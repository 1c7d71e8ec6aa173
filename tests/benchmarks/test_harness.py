"""The command: guards, devices, files, exit status; with benchmarks made for the purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import BENCHMARKS, Benchmark, main
from benchmarks.guards import Guards
from benchmarks.harness import Options, measure

TOY = '''
"""A toy."""
from benchmarks.report import Row, equality
from benchmarks.table import Table

GUARDS = ("test_guard.py",)
seen = []

def run(*, full=False, device="nowhere"):
    seen.append((full, device))
    return [
        Row("toy", "a time", "3 times as fast", "twice", "PASS"),
        Row("toy", "a missed time", "slow", "fast", "FAIL"),
        equality("toy", "bits", True),
        Row("toy", "another device", "not measured", status="SKIP"),
    ]

def tables():
    return [Table("Times", ["kernel", "time"], [["fused | fast", "1 ms"]])]
'''
PLAIN = '''
"""The first contract: no device, no tables, no guards."""
from benchmarks.report import Row

def run(*, full=False):
    return [Row("plain", "full", str(full))]
'''
RAISES = '''
"""A benchmark that fails."""
def run(*, full=False):
    raise ValueError("no such cat")
'''
HEADER = [
    *("processor", "gpu", "device", "threads", "python", "torch", "cuda"),
    *("triton", "diffusers", "transformers", "numpy", "commit", "date"),
]


@pytest.fixture
def guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Of a repository with one green test; and the toys among the benchmarks."""
    folder = tmp_path / "toys"
    folder.mkdir()
    for name, text in (("toy", TOY), ("plain", PLAIN), ("raises", RAISES)):
        module = f"{name}_{tmp_path.name}"
        (folder / f"{module}.py").write_text(text)
        monkeypatch.setitem(BENCHMARKS, name, Benchmark(module))
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(folder)])
    (tmp_path / "test_guard.py").write_text("def test_maps(): pass\n")
    return Guards(tmp_path)


def _turn_red(guards: Guards) -> None:
    (guards.root / "test_guard.py").write_text("def test_maps(): assert 1 == 2\n")


def test_green_guards_leave_all_rows(guards: Guards, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toy", "--device", "cpu"], guards=guards) == 0
    shown = capsys.readouterr().out
    assert "3 times as fast" in shown
    assert "fused \\| fast" in shown
    assert "Guards of toy: 1 tests passed in 1 files." in shown
    assert shown.endswith("goals missed: 1; rows not measured: 1\n")


def test_red_guards_withhold_every_time(
    guards: Guards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _turn_red(guards)
    path = tmp_path / "results.json"
    assert main(["toy", "plain", "--json", str(path)], guards=guards) == 1
    shown = capsys.readouterr().out
    assert "3 times as fast" not in shown
    assert "1 ms" not in shown
    found = json.loads(path.read_text())
    assert found["tables"] == []
    refusal, *others = found["rows"]
    assert refusal["status"] == "FAIL"
    assert refusal["deterministic"]
    assert "withheld" in refusal["what"]
    assert refusal["measured"] == "RED: test_guard.py::test_maps"
    assert [row["what"] for row in others] == ["bits", "another device", "full"]


def test_guards_of_a_device_are_those_of_times_there(guards: Guards) -> None:
    path = guards.root / "toys" / f"{BENCHMARKS['toy'].module}.py"
    path.write_text(TOY + '\nGUARDS_ON = {"cuda": ("test_kernel.py",)}\n')
    (guards.root / "test_kernel.py").write_text("def test_sums(): assert 1 == 2\n")
    modules = {"toy": f"benchmarks.{BENCHMARKS['toy'].module}"}
    (result,) = measure(modules, Options(device="cpu"), guards)
    assert result.guards == "1 tests passed in 1 files"
    (result,) = measure(modules, Options(device="cuda"), guards)
    assert result.guards == "RED: test_kernel.py::test_sums"
    assert result.tables == ()


def test_without_guards_it_says_that_nothing_was_checked(
    guards: Guards, capsys: pytest.CaptureFixture[str]
) -> None:
    _turn_red(guards)
    assert main(["toy", "--no-guards"], guards=guards) == 0
    shown = capsys.readouterr()
    assert "3 times as fast" in shown.out
    assert "Guards of toy: not checked (--no-guards)." in shown.out
    assert "nothing was checked" in shown.err
    assert guards.outcomes == {}


def test_missed_times_fail_only_where_asked(guards: Guards) -> None:
    assert main(["toy"], guards=guards) == 0
    assert main(["toy", "--strict"], guards=guards) == 1


def test_files_hold_header_rows_and_tables(guards: Guards, tmp_path: Path) -> None:
    as_json, as_text = tmp_path / "new" / "a.json", tmp_path / "new" / "a.md"
    command = ["toy", "--device", "cpu", "--json", str(as_json), "--markdown", str(as_text)]
    assert main(command, guards=guards) == 0
    found = json.loads(as_json.read_text())
    assert list(found["header"]) == HEADER
    assert all(found["header"].values())
    assert found["header"]["device"] == "cpu"
    assert found["guards"] == {"toy": "1 tests passed in 1 files"}
    assert found["rows"][0] == {
        "benchmark": "toy",
        "what": "a time",
        "measured": "3 times as fast",
        "goal": "twice",
        "status": "PASS",
        "deterministic": False,
    }
    rows = [["fused | fast", "1 ms"]]
    table = {"benchmark": "toy", "title": "Times", "columns": ["kernel", "time"], "rows": rows}
    assert found["tables"] == [table]
    text = as_text.read_text()
    assert text.startswith("processor ")
    assert "**Times**" in text


def test_device_and_full_are_given_to_who_takes_them(guards: Guards) -> None:
    modules = {name: f"benchmarks.{BENCHMARKS[name].module}" for name in ("toy", "plain")}
    results = measure(modules, Options(full=True, device="cuda", guarded=False), guards)
    toy = __import__(modules["toy"], fromlist=["seen"])
    assert toy.seen == [(True, "cuda")]
    assert results[1].rows[0].measured == "True"
    assert results[1].tables == ()
    assert results[1].guards == ""


def test_a_benchmark_that_raises_is_a_row(
    guards: Guards, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["raises", "plain"], guards=guards) == 1
    shown = capsys.readouterr()
    assert "| raises | the benchmark itself | ValueError: no such cat | runs | FAIL |" in shown.out
    assert "| plain | full | False |" in shown.out
    assert "Traceback" in shown.err


def test_guards_given_as_one_text_are_refused(guards: Guards) -> None:
    path = guards.root / "toys" / f"{BENCHMARKS['toy'].module}.py"
    path.write_text(TOY.replace('("test_guard.py",)', '"test_guard.py"'))
    module = f"benchmarks.{BENCHMARKS['toy'].module}"
    with pytest.raises(TypeError, match=r"_guards_given_.* are a tuple; got 'test_guard.py'"):
        measure({"toy": module}, Options(), guards)


def test_unknown_names_and_devices_end_with_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cats"])
    text = f"'cats' is no benchmark. Benchmarks: {', '.join(BENCHMARKS)}."
    assert text in capsys.readouterr().err


def test_a_missing_gpu_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit, match="2"):
        main(["import_time", "--device", "cuda"])
    assert "torch sees no CUDA device" in capsys.readouterr().err
