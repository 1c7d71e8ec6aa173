"""The tests that guard what is timed: a time of something that is wrong is no result.

A benchmark names them in ``GUARDS``, as files or patterns from the root of the repository. They run
once for an invocation, all in one process of their own, and a file's outcome counts for every
benchmark that names it. ``python -m benchmarks.guards FILE …`` is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Names of red tests in a row; the rest is counted.
SHOWN = 5
TIME_LIMIT = 600


@dataclass
class Outcome:
    """What became of one file's tests.

    Args:
        passed, skipped: how many.
        red: names of those that failed, or why none could run.
    """

    passed: int = 0
    skipped: int = 0
    red: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """Whether a benchmark may show times.

    Args:
        red: the tests that forbid it; empty where they are all green.
        text: what was checked, in words.
    """

    red: tuple[str, ...]
    text: str


class Guards:
    """Runs tests, each file once.

    Args:
        root: of the repository; patterns start there, and pytest runs there.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.outcomes: dict[str, Outcome] = {}

    def files(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The files that patterns name. One without a wildcard is named even if it is not there."""
        found: dict[str, None] = {}
        for pattern in patterns:
            if any(letter in pattern for letter in "*?["):
                matches = sorted(self.root.glob(pattern))
                found |= {path.relative_to(self.root).as_posix(): None for path in matches}
            else:
                found[pattern] = None
        return tuple(found)

    def run(self, patterns: Iterable[str]) -> None:
        """Run what has not run yet, in one process."""
        files = [name for name in self.files(patterns) if name not in self.outcomes]
        missing = [name for name in files if not (self.root / name).is_file()]
        self.outcomes |= {name: Outcome(red=[f"{name} (no such file)"]) for name in missing}
        there = [name for name in files if name not in missing]
        if there:
            self.outcomes |= _run(there, self.root)

    def verdict(self, patterns: Sequence[str]) -> Verdict:
        """Over all of these files, running those that have not run."""
        self.run(patterns)
        outcomes = [self.outcomes[name] for name in self.files(patterns)]
        red = [name for outcome in outcomes for name in outcome.red]
        passed = sum(outcome.passed for outcome in outcomes)
        if not red and not passed:
            red = [f"no test ran in {', '.join(patterns)}"]
        if red:
            more = f" and {len(red) - SHOWN} more" if len(red) > SHOWN else ""
            return Verdict(tuple(red), f"RED: {', '.join(red[:SHOWN])}{more}")
        skipped = sum(outcome.skipped for outcome in outcomes)
        without = f", {skipped} skipped" if skipped else ""
        return Verdict((), f"{passed} tests passed{without} in {len(outcomes)} files")


def _run(files: Sequence[str], root: Path) -> dict[str, Outcome]:
    """The outcome of each file; a process that does not report makes all of them red."""
    command = [sys.executable, "-m", "benchmarks.guards", *files]
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return {name: Outcome(red=[f"{name} (over {TIME_LIMIT} s)"]) for name in files}
    lines = done.stdout.splitlines()
    try:
        found: Mapping[str, Any] = json.loads(lines[-1])
        outcomes = {name: Outcome(**found.get(name, {})) for name in files}
        status = found["status"]
    except (IndexError, KeyError, TypeError, json.JSONDecodeError):
        print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
        why = f"pytest ended with status {done.returncode} and no report"
        return {name: Outcome(red=[f"{name} ({why})"]) for name in files}
    # 1 is "tests failed", which are named; 5 is "no test was collected", which the verdict sees.
    # With any other status it is not known what has run.
    if status not in (0, 1, 5):
        for name, outcome in outcomes.items():
            outcome.red.append(f"{name} (pytest ended with status {status})")
    return outcomes


class _Collector:
    """A plugin of pytest that counts outcomes by file."""

    def __init__(self, files: Sequence[str]) -> None:
        self.outcomes = {name: Outcome() for name in files}

    def _of(self, node: str) -> Outcome:
        return self.outcomes.setdefault(node.split("::", 1)[0], Outcome())

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._of(report.nodeid).red.append(f"{report.nodeid} (cannot be collected)")
        elif report.skipped:
            self._of(report.nodeid).skipped += 1

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcome = self._of(report.nodeid)
        if report.failed:
            outcome.red.append(report.nodeid)
        elif report.skipped:
            outcome.skipped += 1
        elif report.when == "call":
            outcome.passed += 1


def main(files: Sequence[str]) -> int:
    """Run the files' tests; the last line of the output is their outcomes as JSON."""
    import pytest

    collector = _Collector(files)
    options = ["-q", "--tb=no", "--rootdir=.", "--continue-on-collection-errors"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    status = int(pytest.main([*options, *files], plugins=[collector]))
    found = {name: vars(outcome) for name, outcome in collector.outcomes.items()}
    print(json.dumps(found | {"status": status}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
