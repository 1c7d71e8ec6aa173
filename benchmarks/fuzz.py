"""Mutated files of every format: how many load, are refused cleanly, or are neither.

A file may load and answer, or be refused with an error of the library; anything else is counted as
another exception, and so are a file that takes over the time limit and one that writes elsewhere.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz_files import ASK, Seed, make_seeds
from benchmarks.fuzz_mutations import mutate
from benchmarks.report import Row, judged
from benchmarks.table import Table
from diffusers_rdaam.errors import AttributionFileError, RDAAMError

FILES, FEW = 10_000, 500
# Seconds after which a file is interrupted.
LIMIT = 20
SLOWEST, LARGEST = 2.0, 500.0
REACHED = 1 / 3


class TooLongError(BaseException):
    """A file took over the time limit."""


@dataclass
class Outcome:
    """What became of the files of one format.

    Args:
        files, loaded, refused: how many.
        reached: how many had a header that passed its check, so that tensors were looked at.
        others: how often each other exception came, by its last line.
        seconds, slowest: of the processor that the slowest file took, and which it is.
        megabytes: by which the largest file raised the process's memory, as far as it is known.
        samples: tracebacks of others.
    """

    files: int = 0
    loaded: int = 0
    refused: int = 0
    reached: int = 0
    others: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: str = ""
    megabytes: float = 0.0
    samples: list[str] = field(default_factory=list)


_last: dict[str, Outcome] = {}


def run(*, full: bool = False, files: int | None = None, seed: int = 0) -> list[Row]:
    """Mutate, load and ask.

    Args:
        full: whether as many as for a release.
        files: how many, in place of that.
        seed: of the mutations.
    """
    count = files if files is not None else FILES if full else FEW
    start = time.perf_counter()
    outcomes = fuzz(count, seed)
    seconds = time.perf_counter() - start
    _last.clear()
    _last.update(outcomes)
    for outcome in outcomes.values():
        for sample in outcome.samples:
            print(sample, file=sys.stderr)
    return _rows(outcomes, count, seed, seconds)


def _rows(outcomes: dict[str, Outcome], count: int, seed: int, seconds: float) -> list[Row]:
    every = list(outcomes.values())
    others = sum((outcome.others for outcome in every), Counter[str]())
    share = sum(outcome.reached for outcome in every) / max(count, 1)
    slowest = max(every, key=lambda outcome: outcome.seconds)
    largest = max(outcome.megabytes for outcome in every)
    measured = f"{sum(others.values())} in {seconds:.0f} s"
    if others:
        measured += f": {dict(others.most_common(5))}"
    what = f"{count} files, seed {seed}"
    right = share >= REACHED
    return [
        judged("fuzz", f"{what}: other exceptions", measured, "0", not others, deterministic=True),
        judged("fuzz", "share whose header passes its check", f"{share:.1%}", "a third", right),
        judged(
            "fuzz",
            "slowest file, seconds of the processor",
            f"{slowest.seconds:.2f} s ({slowest.slowest})",
            "2 s",
            slowest.seconds <= SLOWEST,
        ),
        judged("fuzz", "memory of a file", f"{largest:.0f} MB", "500 MB", largest <= LARGEST),
    ]


def tables() -> list[Table]:
    """The formats one by one."""
    columns = ["format", "files", "header passes", "loaded", "clean errors", "others", "slowest"]
    rows = [
        [name, *map(str, (o.files, o.reached, o.loaded, o.refused, sum(o.others.values()))),
         f"{o.seconds:.2f} s"]
        for name, o in _last.items()
    ]  # fmt: skip
    return [Table("Mutated files by format", columns, rows)]


def fuzz(count: int, seed: int = 0) -> dict[str, Outcome]:
    """The outcomes of ``count`` files, by format."""
    outcomes = {name: Outcome() for name in ASK}
    with tempfile.TemporaryDirectory() as folder, _reached() as reached:
        (good := Path(folder) / "good").mkdir()
        (scratch := Path(folder) / "scratch").mkdir()
        seeds = make_seeds(good)
        for found in seeds:
            ASK[found.format](found.path, scratch)
            shutil.rmtree(scratch)
            scratch.mkdir()
        for number in range(count):
            # Of its own, so that one file can be made again without those before it.
            rng = random.Random(f"{seed}/{number}")
            chosen = seeds[number % len(seeds)]
            path, kind = _place(chosen, scratch, rng)
            reached.clear()
            name = f"{chosen.path.name}, {kind}, number {number}"
            _one(chosen.format, path, scratch, name, outcomes[chosen.format])
            outcomes[chosen.format].reached += bool(reached)
            shutil.rmtree(scratch)
            scratch.mkdir()
    return outcomes


def _place(chosen: Seed, scratch: Path, rng: random.Random) -> tuple[Path, str]:
    """Put a mutated copy of a valid file or folder in the scratch folder."""
    path = scratch / "file"
    target = path
    if chosen.targets:
        shutil.copytree(chosen.path, path)
        target = path / rng.choice(chosen.targets)
        data, kind = mutate(target.read_bytes(), rng)
        kind = f"{target.name}, {kind}"
    else:
        data, kind = mutate(chosen.path.read_bytes(), rng)
    target.write_bytes(data)
    return path, kind


def _one(format: str, path: Path, scratch: Path, name: str, outcome: Outcome) -> None:
    outcome.files += 1
    before = _memory(reset=True)
    # Of the processor, so that other work beside it does not count.
    start = time.process_time()
    try:
        with _time_limit(LIMIT):
            ASK[format](path, scratch)
        outcome.loaded += 1
    except AttributionFileError:
        outcome.refused += 1
    except Exception as error:
        # What loads may be refused a question, as a prompt without words is; never by Python.
        if isinstance(error, RDAAMError):
            outcome.refused += 1
        else:
            _other(outcome, name, error)
    except TooLongError as error:
        _other(outcome, name, error)
    seconds = time.process_time() - start
    if seconds > outcome.seconds:
        outcome.seconds, outcome.slowest = seconds, name
    outcome.megabytes = max(outcome.megabytes, _memory() - before)


def _other(outcome: Outcome, name: str, error: BaseException) -> None:
    text = f"{type(error).__name__}: {str(error)[:80]}"
    outcome.others[text] += 1
    if len(outcome.samples) < 5:
        outcome.samples.append(f"{name}\n{''.join(traceback.format_exception(error))[-3000:]}")


@contextmanager
def _reached() -> Iterator[list[str]]:
    """Where a tensor's contents or a table's shapes come to be looked at, after the header."""
    from diffusers_rdaam.files import tensor_file

    seen: list[str] = []
    read = tensor_file.TensorFile.read

    def noted(file: Any, name: str) -> Any:
        seen.append(name)
        return read(file, name)

    tensor_file.TensorFile.read = noted  # type: ignore[method-assign]  # for the count only
    try:
        yield seen
    finally:
        tensor_file.TensorFile.read = read  # type: ignore[method-assign]  # as it was


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, where the system can."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLongError(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _memory(*, reset: bool = False) -> float:
    """The process's memory in MB: its highest since the last reset, or now; 0 if not known."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    name = "VmRSS:" if reset else "VmHWM:"
    return next((float(line.split()[1]) / 1e3 for line in lines if line.startswith(name)), 0.0)
