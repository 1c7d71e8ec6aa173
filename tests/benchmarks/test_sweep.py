"""The sweep over ways to cut the Triton kernels' work, at a tiny size in Triton's interpreter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import sweep, sweep_cases
from benchmarks.roofline import Site, sites_of
from benchmarks.sizes import SD15, SDXL
from benchmarks.sweep import Found, Tried
from benchmarks.sweep_cases import Case, Launches
from benchmarks.timing import Sample
from diffusers_rdaam.kernels import blocks, fused, fused_launch
from diffusers_rdaam.kernels.blocks import Blocks

pytest.importorskip("triton", reason="Triton is not installed")
interpreted = pytest.mark.skipif(not fused.interpreted(), reason="Triton is not interpreted")

TINY = Site("toy", 20, 2, 16, 1)
WAYS: tuple[Any, ...] = ("maps_only", "attend", "self-attention")
CASES = [Case(site, way) for site in (*sites_of(SD15), *sites_of(SDXL)) for way in WAYS]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TINY", (TINY,))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("processors", [108, 132])
def test_candidates_fit_and_begin_with_the_default(case: Case, processors: int) -> None:
    default, *others = found = case.candidates(processors, 2)
    assert default == case.default(processors, 2)
    assert len(set(found)) == len(found) > 20
    depth = blocks.cover(case.site.dim).total * 2
    for cut in others:
        loads = 80 * (2 if case.way == "attend" else 1) + cut.positions
        if case.way == "self-attention":
            loads = 2 * cut.columns * cut.stages + cut.positions
            assert cut.splits == 1 and 16 <= cut.columns <= case.site.positions
        else:
            loads *= cut.stages
            assert 1 <= cut.splits <= case.site.heads and cut.columns == 0
            assert cut.stages <= -(-case.site.heads // cut.splits)
        assert loads * depth <= blocks.SHARED_BYTES
        assert cut.positions == 16 or cut.positions < 2 * case.site.positions


def test_every_number_is_varied() -> None:
    found = Case(Site("SD1.5", 4096, 8, 40, 5), "maps_only").candidates(132, 2)
    values = [{getattr(cut, name) for cut in found} for name in ("positions", "splits", "warps")]
    assert values == [{16, 32, 64, 128}, {1, 2, 3, 4, 5, 8}, {2, 4, 8}]
    assert {cut.stages for cut in found} == {1, 2, 3}
    # The neighbours first: these differ from the default in one number.
    differences = [
        sum(getattr(cut, name) != getattr(found[0], name) for name in Blocks.__annotations__)
        for cut in found
    ]
    assert differences == sorted(differences)
    assert differences[:2] == [0, 1]


@interpreted
def test_both_files_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folder" / "found.8.md"
    status = sweep.main(["--device", "cpu", "--budget", "0.02", "--out", str(out)])
    assert status == 0
    printed = capsys.readouterr().out
    assert printed.startswith("**Ways to cut the kernels' work on Triton's interpreter on a CPU**")
    assert printed.strip() in out.read_text()
    content = json.loads((tmp_path / "folder" / "found.8.json").read_text())
    assert [case["kernel"] for case in content["cases"]] == list(WAYS)
    for case in content["cases"]:
        first = case["tried"][0]
        assert (first["cut"], first["why"]) == (case["default"], "")
        assert case["ratio"][0] > 0 and 0 < len(case["tried"]) <= case["candidates"]
        assert case["best"] in [final["cut"] for final in case["finals"]]


@interpreted
@pytest.mark.parametrize("way", WAYS)
def test_right_kernels_agree_however_they_are_cut(way: Any) -> None:
    launches = Launches(Case(TINY, way), "cpu", torch.float16)
    # The interpreter knows neither warps nor stages.
    cuts = launches.case.candidates(108, 2)
    chosen = {(cut.positions, cut.columns, cut.splits): cut for cut in cuts}
    assert len(chosen) > 2
    assert [launches.why_not(cut) for cut in chosen.values()] == [""] * len(chosen)


def _spoiled(monkeypatch: pytest.MonkeyPatch, name: str, spoil: Any) -> None:
    """The kernel as it might be with blocks of 16 positions."""
    right = getattr(fused, name)

    def kernel(query: Any, key: Any, *others: Any, cut: Blocks, **options: Any) -> Any:
        result = right(query, key, *others, cut=cut, **options)
        if cut.positions == 16:
            spoil(others, result)
        return result

    monkeypatch.setattr(fused, name, kernel)


def _not_served(query: Any, key: Any) -> None:
    raise fused_launch.refuse(query, key, "Triton could not launch its kernel (no such size)")


@pytest.mark.slow
@interpreted
@pytest.mark.parametrize(
    ("way", "name", "spoil", "why"),
    [
        ("maps_only", "accumulate", lambda o, r: o[0][..., 7].zero_(), "off the portable kernel's"),
        ("self-attention", "accumulate", lambda o, r: o[0].fill_(torch.nan), "maps are nan off"),
        ("attend", "attend", lambda o, r: r[0, 1, 9].mul_(1.2), "off stock attention's"),
        ("attend", "attend", lambda o, r: o[1][0, 3].zero_(), "off the portable kernel's"),
        ("maps_only", "accumulate", None, "NotServedError: Triton could not launch its kernel"),
    ],
)
def test_wrong_kernels_are_refused(
    monkeypatch: pytest.MonkeyPatch, way: Any, name: str, spoil: Any, why: str
) -> None:
    case = Case(TINY, way)
    if spoil is None:
        query = torch.zeros(1, 2, 20, 16)
        _spoiled(monkeypatch, name, lambda others, result: _not_served(query, query))
    else:
        _spoiled(monkeypatch, name, spoil)
    before = dict(fused_launch.refused)
    found = sweep._sweep_one(case, "cpu", sweep.ThreadClock(), 60)
    assert len(found.tried) == found.candidates
    narrow = [one for one in found.tried if one.cut.positions == 16]
    assert narrow and all(why in one.why and one.seconds is None for one in narrow)
    assert all(one.why == "" for one in found.tried if one.cut.positions != 16)
    assert all(cut.positions != 16 for cut, _ in found.finals)
    assert dict(fused_launch.refused) == before


@interpreted
def test_a_default_that_does_not_work_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*unused: Any) -> str:
        return "OutOfResources: shared memory"

    monkeypatch.setattr(sweep_cases.Launches, "why_not", fails)
    assert sweep.main(["--device", "cpu", "--budget", "0"]) == 1
    assert capsys.readouterr().out.count("OutOfResources: shared memory") == 3

    def broken(*unused: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(sweep, "Launches", broken)
    rows = sweep.run(device="cpu")
    assert {row.measured for row in rows} == {"OutOfMemoryError: no memory"}


@interpreted
def test_without_time_the_default_is_tried_alone() -> None:
    found = sweep._sweep_one(Case(TINY, "maps_only"), "cpu", sweep.ThreadClock(), 0)
    (one,) = found.tried
    assert one.cut == found.default
    assert found.ratio == (1.0, 1.0, 1.0)


def test_the_ratio_is_of_the_last_comparison_alone() -> None:
    default, best, lucky = (Blocks(64, 0, splits, 4, 2) for splits in (1, 2, 4))
    tried = tuple(Tried(cut, time) for cut, time in ((default, 2.0), (best, 1.5), (lucky, 0.1)))
    finals = (
        (default, Sample((3e-6, 2e-6, 3e-6))),
        (best, Sample((1e-6, 2e-6, 2e-6))),
        (lucky, Sample((4e-6, 4e-6, 4e-6))),
    )
    found = Found(CASES[0], default, tried, 9, finals)
    assert found.best is not None and found.best[0] == best
    table = sweep.table([found], "a device")
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["default / best"] == "1.500 (1.000 to 3.000)"
    assert row["default"] == "64 positions, 4 warps, 2 stages"
    assert row["best"] == "64 positions, 2 shares of heads, 4 warps, 2 stages"
    assert (row["tried"], row["refused"]) == ("3 of 9", "0")


def test_without_a_gpu_there_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fused, "interpreted", lambda: False)
    assert sweep.main(["--device", "cpu"]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    (row,) = sweep.run(device="cpu")
    assert (row.status, row.measured) == ("SKIP", sweep.NO_DEVICE)
