"""Runs benchmarks: imports them, guards their times, and keeps what they found."""

from __future__ import annotations

import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benchmarks.guards import Guards, Verdict
from benchmarks.report import Result, Row
from benchmarks.table import Table

UNCHECKED = "not checked (--no-guards)"


@dataclass(frozen=True)
class Options:
    """How benchmarks are run.

    Args:
        full: also the parts that take minutes.
        device: ``"cpu"`` or ``"cuda"``, for those that can choose.
        guarded: whether times are withheld where the tests that guard them are red.
        files, seed: how many files are mutated, if not as many as usual; and of which mutations.
    """

    full: bool = False
    device: str = "cpu"
    guarded: bool = True
    files: int | None = None
    seed: int = 0


def measure(
    modules: Mapping[str, str], options: Options, guards: Guards | None = None
) -> list[Result]:
    """The results of benchmarks, in order.

    Args:
        modules: each benchmark's module, by the benchmark's name.
        options: how.
        guards: what runs the tests.
    """
    guards = guards or Guards()
    loaded = {name: importlib.import_module(module) for name, module in modules.items()}
    if options.guarded:
        start = time.perf_counter()
        device = options.device
        guards.run(name for module in loaded.values() for name in guards_of(module, device))
        seconds = time.perf_counter() - start
        print(f"tests that guard times: {seconds:.1f} s", file=sys.stderr, flush=True)
    else:
        print("tests that guard times: nothing was checked", file=sys.stderr, flush=True)
    return [_run(name, module, options, guards) for name, module in loaded.items()]


def guards_of(module: ModuleType, device: str) -> tuple[str, ...]:
    """The tests that a benchmark's module names, as files or patterns from the repository's root.

    Those of ``GUARDS``; and of ``GUARDS_ON[device]``, where something is timed on that device only.

    Raises:
        TypeError: they are one text, which would be read letter by letter.
    """
    always, there = getattr(module, "GUARDS", ()), getattr(module, "GUARDS_ON", {}).get(device, ())
    for named in (always, there):
        if isinstance(named, str):
            raise TypeError(f"The guards of {module.__name__} are a tuple; got {named!r}.")
    return (*always, *there)


def _run(name: str, module: ModuleType, options: Options, guards: Guards) -> Result:
    start = time.perf_counter()
    named = guards_of(module, options.device)
    verdict = Verdict((), "")
    if named:
        verdict = guards.verdict(named) if options.guarded else Verdict((), UNCHECKED)
    rows, tables = _call(name, module, options)
    if verdict.red:
        rows, tables = [_refusal(name, verdict), *_without_times(rows)], []
    seconds = time.perf_counter() - start
    print(f"{name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Result(name, tuple(rows), tuple(tables), seconds, verdict.text)


def _call(name: str, module: ModuleType, options: Options) -> tuple[list[Row], list[Table]]:
    """A benchmark that fails is a row: what the others found in minutes is not lost with it."""
    given: dict[str, Any] = {
        "full": options.full,
        "device": options.device,
        "files": options.files,
        "seed": options.seed,
    }
    taken = inspect.signature(module.run).parameters
    try:
        rows = list(module.run(**{key: value for key, value in given.items() if key in taken}))
        tables = list(module.tables()) if hasattr(module, "tables") else []
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        row = Row(name, "the benchmark itself", what, "runs", "FAIL", deterministic=True)
        return [row], []
    return rows, tables


def _without_times(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.deterministic or row.status == "SKIP"]


def _refusal(name: str, verdict: Verdict) -> Row:
    return Row(
        name,
        "its times and tables: withheld, because tests of what it times are red",
        verdict.text,
        "green",
        "FAIL",
        deterministic=True,
    )
