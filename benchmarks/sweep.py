"""Which way of cutting the Triton kernels' work is the quickest on a device, at every kind of site.

Positions of a program, programs that share the heads, warps and stages of the compiler are varied
around what is launched by default. Each way is compiled, held against the portable kernel, and
timed; those that do not compile or do not agree are refused. The quickest and the default are then
timed once more, in rounds that are interleaved. ``python -m benchmarks sweep --out FILE`` writes a
table by the device's name, as Markdown and as JSON, after every kind of site.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch

from benchmarks.header import header, markdown_header
from benchmarks.report import Row
from benchmarks.roofline import COLD_BYTES, Site, sites_of
from benchmarks.sizes import SD15, SDXL
from benchmarks.sweep_cases import Case, Launches
from benchmarks.table import Table
from benchmarks.timing import Clock, DeviceClock, Sample, ThreadClock, interleaved
from diffusers_rdaam.kernels import fused, fused_launch
from diffusers_rdaam.kernels.blocks import Blocks

GUARDS = ("tests/kernels/test_blocks.py",)
GUARDS_ON = {"cuda": ("tests/kernels/test_fused_on_device.py",)}

BUDGET = 20.0
# Calls at the first look at each way; then rounds of the last comparison, of the quickest ways.
REPEATS = {"cpu": 1, "cuda": 3}
ROUNDS = {"cpu": 1, "cuda": 15}
FINALISTS = 3
# Where nothing is launched, in the interpreter.
PROCESSORS = 108
# For the interpreter, which takes a second where a GPU takes microseconds.
TINY = (Site("toy", 40, 2, 16, 1),)
NO_DEVICE = (
    "not measured: no CUDA device (a tiny size on the CPU: TRITON_INTERPRET=1 and --device cpu)"
)

_tables: list[Table] = []


@dataclass(frozen=True)
class Tried:
    """One way of cutting.

    Args:
        cut: which.
        seconds: at the first look; None where it was refused.
        why: it was refused.
    """

    cut: Blocks
    seconds: float | None
    why: str = ""


@dataclass(frozen=True)
class Found:
    """What a sweep has found of one case.

    Args:
        case: which.
        default: how its work is cut without a sweep.
        tried: the ways that there was time for, the default first.
        candidates: how many there are.
        finals: the times of the last comparison, the default's among them where it works.
        why: nothing was tried.
    """

    case: Case
    default: Blocks
    tried: tuple[Tried, ...] = ()
    candidates: int = 0
    finals: tuple[tuple[Blocks, Sample], ...] = ()
    why: str = ""

    @property
    def best(self) -> tuple[Blocks, Sample] | None:
        """The quickest by its median; None where none works."""
        return min(self.finals, key=lambda final: final[1].median, default=None)

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """Of the default's time to the best one's, round by round: median, least, largest."""
        default = dict(self.finals).get(self.default)
        return None if default is None or self.best is None else default.over(self.best[1])


def main(arguments: Sequence[str]) -> int:
    """The command; exit status 1 where a default does not work on the device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep", description=__doc__)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=there)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write FILE.md and FILE.json, after every site"
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="MINUTES", help=f"default: {BUDGET:g}"
    )
    given = parser.parse_args(arguments)
    why = missing(given.device)
    if why is not None:
        print(f"sweep: {why}")
        return 0
    torch.set_num_threads(1)
    found = sweep(given.device, given.budget * 60, out=given.out)
    print(table(found, device_name(given.device)).markdown())
    return 1 if any(_default_fails(one) for one in found) else 0


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """The default over the best way of each case."""
    why = missing(device)
    if why is not None:
        return [Row("sweep", "ways to cut the Triton kernels' work", why, status="SKIP")]
    found = sweep(device, 60 * BUDGET)
    _tables[:] = [table(found, device_name(device))]
    return [
        Row("sweep", f"{one.case}: time by default / of the best way", _ratio_text(one) or one.why)
        for one in found
    ]


def tables() -> list[Table]:
    """The ways of the last :func:`run`."""
    return list(_tables)


def missing(device: str) -> str | None:
    """Why there is nothing to sweep on a device; None where there is."""
    if device == "cpu" and not fused.interpreted():
        return NO_DEVICE
    why = fused.unavailable(torch.device(device))
    return None if why is None else f"not measured: {why}"


def sweep(device: str, seconds: float, *, out: Path | None = None) -> list[Found]:
    """All cases; each has an equal share of the time that is left when its turn comes.

    Args:
        device: ``"cuda"``, or with Triton's interpreter ``"cpu"``, at a tiny size.
        seconds: of wall time, about. The default of each case is tried in any case.
        out: where to write; ``.md`` and ``.json`` are put behind it.
    """
    large = device == "cuda"
    sites = (*sites_of(SD15), *sites_of(SDXL)) if large else TINY
    clock: Clock = DeviceClock(device, cold=COLD_BYTES) if large else ThreadClock()
    cases = [Case(site, way) for site in sites for way in ("maps_only", "attend", "self-attention")]
    end, found = time.monotonic() + seconds, []
    for number, case in enumerate(cases):
        left = max(0.0, end - time.monotonic())
        found.append(_sweep_one(case, device, clock, left / (len(cases) - number)))
        if out is not None:
            _write(out, found, device)
    return found


def _sweep_one(case: Case, device: str, clock: Clock, seconds: float) -> Found:
    end, dtype = time.monotonic() + seconds, torch.float16
    processors = _processors(device)
    default = case.default(processors, dtype.itemsize)
    candidates = case.candidates(processors, dtype.itemsize)
    tried: list[Tried] = []
    with torch.no_grad(), _refusals_undone():
        try:
            launches = Launches(case, device, dtype)
        except Exception as error:
            return Found(case, default, why=f"{type(error).__name__}: {error}".splitlines()[0])
        for cut in candidates:
            tried.append(_try(launches, cut, clock))
            if time.monotonic() >= end:
                break
        finals = _finals(launches, default, tried, clock)
    return Found(case, default, tuple(tried), len(candidates), finals)


def _try(launches: Launches, cut: Blocks, clock: Clock) -> Tried:
    why = launches.why_not(cut)
    if why:
        return Tried(cut, None, why)
    try:
        return Tried(cut, clock.seconds(launches.of(cut), REPEATS[launches.device]))
    except Exception as error:
        return Tried(cut, None, f"{type(error).__name__}: {error}".splitlines()[0])


def _finals(
    launches: Launches, default: Blocks, tried: list[Tried], clock: Clock
) -> tuple[tuple[Blocks, Sample], ...]:
    """The quickest of many is quick by chance too: it is timed again, beside the default."""
    works = {one.cut: one.seconds for one in tried if one.seconds is not None}
    quickest = sorted(works, key=lambda cut: works[cut])[:FINALISTS]
    chosen = dict.fromkeys([*([default] if default in works else []), *quickest])
    if not chosen:
        return ()
    calls = {str(number): launches.of(cut) for number, cut in enumerate(chosen)}
    taken = interleaved(calls, rounds=ROUNDS[launches.device], clock=clock)
    return tuple(zip(chosen, taken.values(), strict=True))


def _refusals_undone() -> AbstractContextManager[object]:
    """A way that does not compile must not bar the default one from the process."""
    return mock.patch.dict(fused_launch.refused)


def _processors(device: str) -> int:
    if device != "cuda":
        return PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def device_name(device: str) -> str:
    """Of the table's title."""
    return torch.cuda.get_device_name() if device == "cuda" else "Triton's interpreter on a CPU"


def table(found: Sequence[Found], name: str) -> Table:
    """A row for each case: the default, the best way, and how much longer the default takes.

    Args:
        found: of the cases.
        name: of the device.
    """
    columns = ["site", "kernel", "default", "its time", "best", "its time", "default / best"]
    rows = []
    for one in found:
        finals, best = dict(one.finals), one.best
        default = finals.get(one.default)
        rows.append(
            [
                str(one.case.site),
                one.case.way,
                cut_text(one.default),
                one.why or _refusal(one) if default is None else default.text("us"),
                "" if best is None else cut_text(best[0]),
                "" if best is None else best[1].text("us"),
                _ratio_text(one),
                f"{len(one.tried)} of {one.candidates}",
                str(sum(bool(each.why) for each in one.tried)),
            ]
        )
    return Table(f"Ways to cut the kernels' work on {name}", [*columns, "tried", "refused"], rows)


def cut_text(cut: Blocks) -> str:
    """In words, as ``"64 positions, 2 shares of heads, 4 warps, 1 stage"``."""
    parts = [f"{cut.positions} positions"]
    if cut.columns:
        parts.append(f"{cut.columns} columns")
    elif cut.splits > 1:
        parts.append(f"{cut.splits} shares of heads")
    stages = "stage" if cut.stages == 1 else "stages"
    return ", ".join([*parts, f"{cut.warps} warps", f"{cut.stages} {stages}"])


def _ratio_text(one: Found) -> str:
    if one.ratio is None:
        return ""
    ratio, low, high = one.ratio
    return f"{ratio:.3f} ({low:.3f} to {high:.3f})"


def _default_fails(one: Found) -> bool:
    return bool(one.why) or one.default not in dict(one.finals)


def _refusal(one: Found) -> str:
    return next((each.why for each in one.tried if each.cut == one.default), "")


def _write(out: Path, found: Sequence[Found], device: str) -> None:
    """Both files, whole: a sweep that is ended leaves the cases that it has seen."""
    facts, name = header(device), device_name(device)
    out.parent.mkdir(parents=True, exist_ok=True)
    text = f"{markdown_header(facts)}\n\n{table(found, name).markdown()}\n"
    out = out.with_suffix("") if out.suffix in (".md", ".json") else out
    out.with_name(f"{out.name}.md").write_text(text)
    cases = [
        {
            "site": str(one.case.site),
            "kernel": one.case.way,
            "why": one.why,
            "default": asdict(one.default),
            "best": None if one.best is None else asdict(one.best[0]),
            "ratio": None if one.ratio is None else list(one.ratio),
            "finals": [
                {"cut": asdict(cut), "seconds": list(sample.seconds)} for cut, sample in one.finals
            ],
            "candidates": one.candidates,
            "tried": [asdict(each) for each in one.tried],
        }
        for one in found
    ]
    content = {"header": facts, "device": name, "cases": cases}
    out.with_name(f"{out.name}.json").write_text(json.dumps(content, indent=2) + "\n")
