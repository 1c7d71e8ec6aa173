"""What an interrupt leaves behind, at every distinct line of the package, in every kind of run.

A scenario runs once while its lines are noted. Then it runs again for each line: when that line is
reached, ``KeyboardInterrupt`` is raised there, as Ctrl-C would. Before any further call the host is
compared with what it was: processors, hooks, classes, attributes, gradients, global settings, the
registry of armed denoisers; the next stock call must make the same image, and the denoiser must be
freed with its pipeline. What only the next call puts right is a column of its own.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import diffusers_rdaam
from benchmarks.host_state import differences, state_of
from benchmarks.report import Row, judged
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.table import Table
from benchmarks.toy_host import new_host, stock_image

PACKAGE = str(Path(diffusers_rdaam.__file__).parent)
SEED = 20240
# Lines of all scenarios together, unless all are asked for.
QUICK = 400
# To make a host takes longer than to interrupt a run of it.
LINES_OF_A_HOST = 16
SHOWN = 6

Line = tuple[str, int]


@dataclass
class Outcome:
    """What became of one scenario.

    Args:
        lines: at how many it was interrupted.
        left: by line, what was not as before, before any further call.
        healed: lines of ``left`` where the next call put everything right.
        image: lines after which the next stock call made another image, or failed.
        held: lines after which the denoiser outlived its pipeline.
        missed: lines that were not reached again, or where the interrupt was swallowed.
    """

    lines: int = 0
    left: dict[str, list[str]] = field(default_factory=dict)
    healed: list[str] = field(default_factory=list)
    image: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """Lines after which anything was wrong."""
        return len({*self.left, *self.image, *self.held})


class _Interrupter:
    """A trace function that raises at one line, the ``number``-th time it is reached."""

    def __init__(self, line: Line, number: int, error: type[BaseException]) -> None:
        self.file, self.line = line
        self.left = number
        self.error = error
        self.fired = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename != self.file or code.co_firstlineno > self.line or self.fired:
            return None
        return self._local

    def _local(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_lineno == self.line and not self.fired:
            self.left -= 1
            if self.left == 0:
                self.fired = True
                raise self.error
        return self._local


def lines_of(scenario: Scenario, *, again: bool = True) -> Counter[Line]:
    """Every line of the package that a scenario executes, and how often.

    Args:
        scenario: to run.
        again: see the second run: what is imported, compiled or cached in the first is not run
            again.
    """
    found: Counter[Line] = Counter()

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            found[frame.f_code.co_filename, frame.f_lineno] += 1
        return local

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    for traced in (False, True) if again else (True,):
        pipe = scenario.host()
        needed = scenario.ready(pipe)
        before = sys.gettrace()
        sys.settrace(trace if traced else before)
        try:
            _quietly(scenario, pipe, needed)
        finally:
            sys.settrace(before)
    return found


def _quietly(scenario: Scenario, pipe: Any, needed: Any) -> None:
    """Run; memory costs that are reported on the way are not shown."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scenario.run(pipe, needed)


def interrupt(scenario: Scenario, line: Line, wanted: torch.Tensor, number: int = 1) -> Outcome:
    """Interrupt a run at a line, and see what is left."""
    outcome = Outcome(lines=1)
    name = _short(line)
    pipe = scenario.host()
    needed = scenario.ready(pipe)
    gc.collect()
    before = state_of(pipe)
    if not run_until(scenario, pipe, needed, line, number):
        outcome.missed.append(name)
    gc.collect()
    left = differences(before, state_of(pipe))
    if left:
        outcome.left[name] = left
        if _healed(scenario, pipe, needed, before):
            outcome.healed.append(name)
    if not _same_image(pipe, wanted):
        outcome.image.append(name)
    denoiser = weakref.ref(pipe.unet)
    before.clear()
    del pipe, needed
    gc.collect()
    if denoiser() is not None:
        outcome.held.append(name)
    return outcome


def run_until(
    scenario: Scenario,
    pipe: Any,
    needed: Any,
    line: Line | None,
    number: int = 1,
    error: type[BaseException] = KeyboardInterrupt,
) -> bool:
    """Run a scenario until a line raises, or to its end where none is given.

    Returns:
        Whether the exception came out; its traceback, which holds frames, is gone afterwards.
    """
    before = sys.gettrace()
    sys.settrace(before if line is None else _Interrupter(line, number, error))
    try:
        _quietly(scenario, pipe, needed)
    except error:
        return True
    except Exception:
        # One of the package's own, with this one as its cause.
        return False
    finally:
        sys.settrace(before)
    return False


def _healed(scenario: Scenario, pipe: Any, needed: Any, before: Any) -> bool:
    try:
        _quietly(scenario, pipe, needed)
    except Exception:
        return False
    gc.collect()
    return not differences(before, state_of(pipe))


def _same_image(pipe: Any, wanted: torch.Tensor) -> bool:
    try:
        return torch.equal(stock_image(pipe), wanted)
    except Exception:
        return False


@cache
def _wanted_image() -> torch.Tensor:
    """Of every host: they have the same weights."""
    return stock_image(new_host())


def measure(name: str, lines: Mapping[Line, int]) -> Outcome:
    """Interrupt a scenario at lines, each at the execution of this number."""
    scenario = SCENARIOS[name]
    total = Outcome()
    wanted = _wanted_image()
    gc.collect()
    # Libraries are half a million objects that need not be looked through each time.
    gc.freeze()
    try:
        rest = sorted(lines.items())
        while rest:
            group = rest[:LINES_OF_A_HOST]
            clean = _clean(scenario, group, wanted)
            total.lines += clean
            # Whatever was wrong is told of a host that was interrupted at one line only.
            alone = group[clean : clean + 1]
            for line, number in alone:
                _add(total, interrupt(scenario, line, wanted, number))
            rest = rest[clean + len(alone) :]
    finally:
        gc.unfreeze()
    return total


def _clean(scenario: Scenario, lines: Sequence[tuple[Line, int]], wanted: torch.Tensor) -> int:
    """How many of the lines, from the first on, leave one host as it was, interrupted in turn.

    0 where the host's image is another at the end, or its denoiser is held: which line did that is
    not known.
    """
    pipe = scenario.host()
    needed = scenario.ready(pipe)
    gc.collect()
    before = state_of(pipe)
    clean = 0
    for line, number in lines:
        came_out = run_until(scenario, pipe, needed, line, number)
        gc.collect()
        if not came_out or differences(before, state_of(pipe)):
            break
        clean += 1
    # What the first line to leave something has left is no fault of those before it.
    is_same = clean < len(lines) or _same_image(pipe, wanted)
    denoiser = weakref.ref(pipe.unet)
    before.clear()
    del pipe, needed
    gc.collect()
    return clean if is_same and denoiser() is None else 0


def _add(total: Outcome, one: Outcome) -> None:
    total.lines += one.lines
    total.left |= one.left
    for name in ("healed", "image", "held", "missed"):
        getattr(total, name).extend(getattr(one, name))


def _short(line: Line) -> str:
    return f"{Path(line[0]).relative_to(PACKAGE)}:{line[1]}"


def choose(
    names: Sequence[str], limit: int | None = None, *, every: bool = False
) -> dict[str, Counter[Line]]:
    """Lines of each scenario, with how often it executes them.

    Args:
        names: of the scenarios.
        limit: no more lines than this, drawn from a fixed seed.
        every: each line in all scenarios that reach it; in one of them, drawn, if not.
    """
    draw = random.Random(SEED)
    counts = {name: lines_of(SCENARIOS[name]) for name in names}
    pairs = [(line, name) for name in names for line in counts[name]]
    draw.shuffle(pairs)
    chosen = pairs if every else list(dict(pairs).items())
    found: dict[str, Counter[Line]] = {name: Counter() for name in names}
    for line, name in chosen[:limit]:
        found[name][line] = counts[name][line]
    return found


_outcomes: dict[str, Outcome] = {}


def run(*, full: bool = False) -> list[Row]:
    """A sample of the lines, or all of them."""
    _outcomes.clear()
    for name, lines in choose(list(SCENARIOS), None if full else QUICK).items():
        _outcomes[name] = measure(name, dict.fromkeys(lines, 1))
    lines = sum(outcome.lines for outcome in _outcomes.values())
    bad = sum(outcome.bad for outcome in _outcomes.values())
    what = f"an interrupt at {lines} lines in {len(_outcomes)} scenarios: lines that left something"
    return [judged("interrupts", what, str(bad), "0", bad == 0, deterministic=True)]


def tables() -> list[Table]:
    """One row a scenario."""
    columns = ["scenario", "lines", "left something", "of these healed by the next call"]
    columns += ["another image", "denoiser held", "not reached"]
    rows = [
        [name, str(one.lines)]
        + [str(len(found)) for found in (one.left, one.healed, one.image, one.held, one.missed)]
        for name, one in _outcomes.items()
    ]
    return [Table("What an interrupt left behind", columns, rows)]


def main(arguments: list[str]) -> int:
    """The command; exit status 1 where a line left something."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks interrupts", description=__doc__)
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append", help="only these")
    parser.add_argument("--limit", type=int, metavar="N", help="so many lines, from a fixed seed")
    parser.add_argument("--last", action="store_true", help="at the line's last execution instead")
    parser.add_argument(
        "--line",
        metavar="FILE:LINE",
        help="only there, such as recording/recorder.py:9",
    )
    parser.add_argument("--every", action="store_true", help="each line in every scenario it is in")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start = time.monotonic()
    _outcomes.clear()
    names = given.scenario or list(SCENARIOS)
    for name, lines in choose(names, given.limit, every=given.every or bool(given.line)).items():
        asked = {line: count for line, count in lines.items() if given.line in (None, _short(line))}
        _outcomes[name] = measure(name, asked if given.last else dict.fromkeys(asked, 1))
        _print(name, _outcomes[name])
    print(f"\n{tables()[0].markdown()}\n")
    total = sum(outcome.lines for outcome in _outcomes.values())
    bad = sum(outcome.bad for outcome in _outcomes.values())
    print(f"{bad} of {total} lines left something; {time.monotonic() - start:.0f} s")
    return 1 if bad else 0


def _print(name: str, outcome: Outcome) -> None:
    print(f"{name}: {outcome.bad} of {outcome.lines} lines left something", flush=True)
    for line, what in outcome.left.items():
        more = f", and {len(what) - SHOWN} more" if len(what) > SHOWN else ""
        healed = " (healed by the next call)" if line in outcome.healed else ""
        print(f"  {line}: {'; '.join(what[:SHOWN])}{more}{healed}")
    for title, lines in (
        ("another image after", outcome.image),
        ("the denoiser is held after", outcome.held),
        ("not reached, or swallowed", outcome.missed),
    ):
        if lines:
            print(f"  {title}: {', '.join(lines)}", flush=True)
