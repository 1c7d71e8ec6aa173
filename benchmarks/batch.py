"""Batches: rows a second of 1 and 2 workers, processor time a row with Ray and without, memory.

Each batch runs in a process of its own on the embedded model, one thread a worker. The first rows
(loading, starting Ray) are not timed: the clock runs from the moment when each worker has made two.
With ``--kill`` a worker and then the driver are killed, the batch goes on, and every row is
counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Row, judged

ROWS = 200
GUARDS = ("tests/batch/test_batch_interrupts.py",)
_RATE, _OVERHEAD, _GROWTH = 1.7, 0.10, 0.05
_MODEL = Path(__file__).parents[1] / "tests" / "data" / "tiny_sd"
# Rows of the tiny pipeline at its smallest size: thousands take minutes.
_TINY = {"model": str(_MODEL), "steps": 1, "height": 64, "width": 64}
_CODE = """
import json, sys
from diffusers_rdaam import run_batch

options = json.loads(sys.argv[1])
count = options.pop("count")
colours, shapes = ("red", "green", "blue", "yellow"), ("circle", "square", "triangle", "heart")
rows = [f"a {colours[i % 4]} {shapes[i // 4 % 4]}" for i in range(count)]
run_batch(rows, progress=False, **options)
"""


@dataclass(frozen=True)
class Measured:
    """One batch.

    Args:
        rows: that were timed.
        seconds: of wall time.
        cpu: seconds of all its processes over the timed rows.
        memory: resident bytes of the largest process, early and at the end.
    """

    rows: int
    seconds: float
    cpu: float
    memory: tuple[int, int]

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


def start(out: Path, **options: object) -> subprocess.Popen[bytes]:
    """A batch in a process of its own."""
    given = json.dumps({"out": str(out), **options})
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", _CODE, given], env=environment)


def ready(out: Path, rows_per_file: int) -> int:
    """How many rows of a batch are on the disk."""
    done = len(list((out / ".batch" / "done").glob("*.json")))
    parts = 0
    for folder in (out / ".batch" / "parts").glob("*"):
        # A folder goes away when its file is complete.
        with suppress(OSError):
            parts += sum(path.suffix == ".arrow" for path in folder.iterdir())
    return done * rows_per_file + parts


def _processes(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Processor seconds of a process and all below it, and the memory of the largest."""
    import psutil

    seconds, largest = 0.0, 0
    whole = psutil.Process(process.pid)
    for one in [whole, *whole.children(recursive=True)]:
        try:
            times = one.cpu_times()
            seconds += times.user + times.system
            largest = max(largest, one.memory_info().rss)
        except psutil.Error:
            continue
    return seconds, largest


def measure(rows: int, workers: int, rows_per_file: int = 5, **settings: object) -> Measured:
    """Time a batch of some rows after a warm-up; without workers in one process, without Ray."""
    warm = 2 * max(workers, 1)
    options = settings | ({"workers": workers} if workers else {"use_ray": False})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        process = start(out, count=rows + warm, rows_per_file=rows_per_file, **options)
        while ready(out, rows_per_file) < warm:
            if process.poll() is not None:
                raise RuntimeError(f"a batch ended with status {process.returncode}")
            time.sleep(0.02)
        begun, (cpu, memory) = time.monotonic(), _processes(process)
        first, last, last_memory, at = ready(out, rows_per_file), cpu, memory, begun
        count = first
        while process.poll() is None and count < rows + warm:
            time.sleep(0.1)
            now = ready(out, rows_per_file)
            if now > count:
                count, at = now, time.monotonic()
                last, last_memory = _processes(process)
        process.wait()
    return Measured(count - first, at - begun, last - cpu, (memory, last_memory))


def run(*, full: bool) -> list[Row]:
    """200 rows in one process, with one worker and with two; 20 unless ``full``."""
    return _rows(ROWS if full else 20)


def _rows(count: int) -> list[Row]:
    plain, one, two = (measure(count, workers) for workers in (0, 1, 2))
    rate = two.rate / one.rate
    overhead = (one.cpu / one.rows) / (plain.cpu / plain.rows) - 1.0
    name = "batch"
    return [
        Row(name, f"one process, {plain.rows} rows", f"{plain.rate:.2f} rows/s"),
        Row(name, f"1 worker, {one.rows} rows", f"{one.rate:.2f} rows/s"),
        judged(
            name,
            f"2 workers, {two.rows} rows",
            f"{two.rate:.2f} rows/s, {rate:.2f} times one",
            f">= {_RATE} times one",
            rate >= _RATE,
        ),
        judged(
            name,
            "processor time a row, 1 worker on Ray over one process",
            f"{one.cpu / one.rows:.2f} s over {plain.cpu / plain.rows:.2f} s, {overhead:+.1%}",
            f"<= {_OVERHEAD:.0%} more",
            overhead <= _OVERHEAD,
        ),
        _memory_row(plain),
    ]


def _tiny_memory(count: int) -> Row:
    return _memory_row(measure(count, 0, 20, **_TINY))


def _memory_row(found: Measured) -> Row:
    """Whether the process has as much memory at the end as after the warm-up."""
    first, last = found.memory
    return judged(
        "batch",
        f"memory of the process over {found.rows} rows",
        f"{first / 1e6:.0f} MB, then {last / 1e6:.0f} MB",
        f"<= {_GROWTH:.0%} more",
        last / first - 1.0 <= _GROWTH,
    )


def kill(count: int, workers: int) -> str:
    """Make a batch whose worker and then driver are killed, go on, and count the rows.

    The tiny pipeline at its smallest size, so that thousands of rows take minutes.
    """
    from diffusers_rdaam import read_batch

    options = {
        **_TINY,
        "count": count,
        "rows_per_file": 20,
        **({"workers": workers} if workers else {"use_ray": False}),
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        process, killed = start(out, **options), 0
        for share in (0.2, 0.5):
            while ready(out, 20) < share * count and process.poll() is None:
                time.sleep(0.05)
            victims = _workers(process)
            if share == 0.2 and victims:
                os.kill(victims[0], signal.SIGKILL)
                killed += 1
        process.kill()
        process.wait()
        before = ready(out, 20)
        time.sleep(5.0 if workers else 0.0)
        resumed = start(out, resume=True, **options).wait()
        found = [row.values["index"] for row in read_batch(out)]
        whole = found == list(range(count)) and resumed == 0
        errors = sum(row.error is not None for row in read_batch(out))
    return (
        f"{count} rows, {killed} workers killed, the driver killed after {before} rows, resumed: "
        f"{'every row once' if whole else 'ROWS ARE MISSING OR DOUBLE'}, {errors} error rows"
    )


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    import psutil

    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            if "_Actor" in " ".join(one.cmdline()) or "MapWorker" in " ".join(one.cmdline()):
                found.append(one.pid)
        except psutil.Error:
            continue
    return found


def main(arguments: list[str]) -> int:
    """The command; exit status 1 where a row was lost or a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batch", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"default: {ROWS}")
    parser.add_argument("--kill", action="store_true", help="kill a worker and the driver instead")
    parser.add_argument("--workers", type=int, default=2, help="with --kill; 0 is without Ray")
    parser.add_argument(
        "--memory", action="store_true", help="of one process, over rows of the tiny pipeline"
    )
    given = parser.parse_args(arguments)
    if given.kill:
        said = kill(given.rows, given.workers)
        print(said)
        return 0 if "every row once" in said else 1
    rows = [_tiny_memory(given.rows)] if given.memory else _rows(given.rows)
    for row in rows:
        print(f"{row.status:<5} {row.what}: {row.measured} {row.goal and f'(goal {row.goal})'}")
    return int(any(row.status == "FAIL" for row in rows))
