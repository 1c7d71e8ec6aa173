"""Whether hundreds of mixed runs, some of them broken off, leave anything: tensors, hooks, handles.

Three pipelines live through all runs: a stock one, one of this package, and one of a class with a
loop of its own. Scenarios are drawn from a fixed seed; a share of them is interrupted, or gets an
exception, at a line that is drawn too. At five moments every pipeline makes a plain image, and what
is alive is counted.
"""

from __future__ import annotations

import argparse
import gc
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.host_state import open_files
from benchmarks.interrupts import Line, lines_of, run_until
from benchmarks.report import Row, judged
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.table import Table
from benchmarks.toy_host import PROMPT, settings
from diffusers_rdaam import RDAAMProcessor

SEED = 4077
RUNS = 300
MOMENTS = 5
# Of ten runs, how many are interrupted, and how many get an exception.
INTERRUPTED = FAILED = 2


@dataclass(frozen=True)
class Alive:
    """What there is at a moment.

    Args:
        runs: how many there were.
        tensors: that Python knows.
        megabytes: of their storages, each counted once.
        hooks: on all modules of the pipelines, and on their weights.
        files: open in the process.
        threads: of Python.
        resident: memory of the process in megabytes, which an allocator may keep.
    """

    runs: int
    tensors: int
    megabytes: float
    hooks: int
    files: int
    threads: int
    resident: float


def count(pipes: Sequence[Any], runs: int) -> Alive:
    """Count now, after a collection."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in tensors
        if tensor.device.type != "meta"
    }
    megabytes = round(sum(storages.values()) / 1e6, 3)
    hooks = sum(map(_hooks, chain.from_iterable(map(_modules, pipes))))
    resident = _resident()
    return Alive(
        runs, len(tensors), megabytes, hooks, open_files(), threading.active_count(), resident
    )


def _modules(pipe: Any) -> Iterator[nn.Module]:
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            yield from part.modules()


def _hooks(module: nn.Module) -> int:
    kinds = (value for name, value in vars(module).items() if name.endswith("_hooks"))
    of_weights = (weight._backward_hooks for weight in module.parameters(recurse=False))
    return sum(len(found) for found in chain(kinds, of_weights) if found)


def _resident() -> float:
    status = Path("/proc/self/statm")
    return round(int(status.read_text().split()[1]) * 4096 / 1e6, 1) if status.is_file() else 0.0


def measure(runs: int, names: Sequence[str] = tuple(SCENARIOS)) -> list[Alive]:
    """Make the runs, and count at the beginning, the end, and between."""
    draw = random.Random(SEED)
    scenarios = [SCENARIOS[name] for name in names]
    hosts = {one.host_class: one.host() for one in scenarios}
    pipes = list(hosts.values())
    # The first run of each kind imports and caches, and tells its lines.
    lines: dict[str, Counter[Line]] = {name: lines_of(SCENARIOS[name]) for name in names}
    for name in names:
        _run(SCENARIOS[name], hosts, None, draw)
    moments = {round(runs * part / (MOMENTS - 1)) for part in range(MOMENTS)}
    found = []
    for number in range(runs + 1):
        if number in moments:
            _settle(pipes)
            found.append(count(pipes, number))
        if number < runs:
            name = draw.choice(list(names))
            _run(SCENARIOS[name], hosts, list(lines[name]), draw)
    return found


def _run(
    scenario: Scenario, hosts: dict[type, Any], lines: list[Line] | None, draw: random.Random
) -> None:
    pipe = hosts[scenario.host_class]
    needed = scenario.ready(pipe)
    number = draw.randrange(10)
    error = KeyboardInterrupt if number < INTERRUPTED else RuntimeError
    broken_off = lines is not None and number < INTERRUPTED + FAILED
    line = draw.choice(lines) if lines and broken_off else None
    run_until(scenario, pipe, needed, line, error=error)
    if scenario.ours:
        pipe.set_attn_processor(RDAAMProcessor())


def _settle(pipes: Sequence[Any]) -> None:
    """The same last run each time: its answers and buffers stay with the pipeline."""
    for pipe in pipes:
        pipe(PROMPT, **settings())


_found: list[Alive] = []


def constant(found: Sequence[Alive]) -> list[str]:
    """The names of what is not as at the first moment; memory of the process may move."""
    first, last = found[0], found[-1]
    names = [field.name for field in fields(Alive) if field.name not in ("runs", "resident")]
    return [name for name in names if getattr(last, name) != getattr(first, name)]


def run(*, full: bool = False) -> list[Row]:
    """300 runs; 60 if not ``full``."""
    _found[:] = measure(RUNS if full else RUNS // 5)
    grown = constant(_found)
    what = f"{_found[-1].runs} mixed runs: tensors, bytes, hooks, files and threads"
    measured = "constant" if not grown else f"changed: {', '.join(grown)}"
    return [judged("leaks", what, measured, "constant", not grown, deterministic=True)]


def tables() -> list[Table]:
    """One row a moment."""
    columns = [field.name for field in fields(Alive)]
    rows = [[str(cell) for cell in astuple(alive)] for alive in _found]
    return [Table("What is alive after so many runs", columns, rows)]


def main(arguments: list[str]) -> int:
    """The command; exit status 1 where something grew."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks leaks", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"default: {RUNS}")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    _found[:] = measure(given.runs)
    grown = constant(_found)
    print(tables()[0].markdown())
    print("\nconstant" if not grown else f"\nchanged: {', '.join(grown)}")
    return 1 if grown else 0
