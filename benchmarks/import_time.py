"""How long a fresh interpreter takes to import the package, and to show the command's help."""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
import time

from benchmarks.report import Row, judged
from benchmarks.timing import Sample

ROUNDS = 9
GOAL_IMPORT = 0.05
GOAL_HELP = 0.5
HEAVY = ("torch", "diffusers", "transformers", "numpy")
PROGRAM = f"""
import json, sys, time
start = time.process_time()
import diffusers_rdaam
seconds = time.process_time() - start
print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))
"""


def run(*, full: bool = False) -> list[Row]:
    """The import's CPU time; the help's CPU time, start of the interpreter included."""
    runs = [json.loads(_python("-c", PROGRAM)) for _ in range(ROUNDS)]
    imported = Sample(tuple(seconds for seconds, _ in runs))
    loaded = sorted({name for _, names in runs for name in names})
    return [
        judged(
            "import_time",
            "import diffusers_rdaam in a fresh interpreter, CPU time",
            imported.text(),
            f"median at most {GOAL_IMPORT * 1e3:g} ms",
            imported.median <= GOAL_IMPORT,
        ),
        judged(
            "import_time",
            f"of {', '.join(HEAVY)} loaded by it",
            ", ".join(loaded) or "none",
            "none",
            not loaded,
            deterministic=True,
        ),
        _help(),
    ]


def _help() -> Row:
    what = "rdaam --help from the start of the interpreter to its end, CPU time"
    if importlib.util.find_spec("diffusers_rdaam.cli") is None:
        return Row("import_time", what, "there is no command yet", status="SKIP")
    _python("-m", "diffusers_rdaam", "--help")
    cpu, wall = [], []
    for _ in range(ROUNDS):
        start, before = time.perf_counter(), _children_seconds()
        _python("-m", "diffusers_rdaam", "--help")
        cpu.append(_children_seconds() - before)
        wall.append(time.perf_counter() - start)
    shown = Sample(tuple(cpu))
    return judged(
        "import_time",
        what,
        f"{shown.text()}; wall {Sample(tuple(wall)).text()}",
        f"median under {GOAL_HELP * 1e3:g} ms",
        shown.median < GOAL_HELP,
    )


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:3])} failed:\n{done.stderr[-2000:]}")
    return done.stdout
