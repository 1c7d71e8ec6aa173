"""Everything that a first run on a GPU has to show, in one command: ten steps, one report.

Each step runs in processes of its own, bounded in time; after a failure the next one runs. What the
machine lacks is skipped with the reason. ``first_gpu.md`` and ``first_gpu.json`` are written after
every command, so that a run that is ended leaves what it has; the output of each lies beside them.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.first_gpu.outcome import StepOutcome, exit_status
from benchmarks.first_gpu.runner import Runner
from benchmarks.first_gpu.steps import STEPS, Step
from benchmarks.report import Row

MINUTES = 35.0
OUT = Path("out/first_gpu")
STATUS = {"passed": "PASS", "skipped": "SKIP", "not reached": "SKIP"}


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """A row for each step, reported in ``out/first_gpu``."""
    facts = {"device": "cpu"} if device == "cpu" else None
    steps = Runner(STEPS, OUT, budget=60 * MINUTES, facts=facts).run()
    return [_row(step) for step in steps]


def _row(step: StepOutcome) -> Row:
    status: Any = STATUS.get(step.result, "FAIL")
    measured = f"{step.result}, {step.seconds:.0f} s"
    return Row("first_gpu", f"{step.number}. {step.title}", measured, "passed", status, True)


def main(
    arguments: list[str],
    *,
    steps: Sequence[Step] = STEPS,
    facts: Mapping[str, str] | None = None,
) -> int:
    """The command; exit status 1 where a step failed or was ended, else 0.

    Args:
        arguments: of the command line.
        steps: what is run.
        facts: of the machine; found out if not given.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks first_gpu", description=__doc__)
    parser.add_argument(
        "--budget",
        type=float,
        default=MINUTES,
        metavar="MINUTES",
        help=f"for all steps together (default: {MINUTES:g})",
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FOLDER", help=f"of the report (default: {OUT})"
    )
    parser.add_argument(
        "--steps", metavar="N,N", help="run these alone, such as 6,7 or 1-5 (default: all)"
    )
    parser.add_argument(
        "--inference-steps",
        type=int,
        default=20,
        metavar="N",
        help="of the embedded pipeline's runs (default: 20)",
    )
    given = parser.parse_args(arguments)
    if given.budget <= 0:
        parser.error(f"--budget {given.budget:g}: give minutes, over 0.")
    chosen = None
    if given.steps is not None:
        chosen = _numbers(given.steps, [step.number for step in steps])
        if chosen is None:
            parser.error(
                f"--steps {given.steps}: give numbers from 1 to {len(steps)}, as in 1-5,7."
            )
    runner = Runner(
        steps,
        given.out,
        budget=60 * given.budget,
        facts=facts,
        inference_steps=given.inference_steps,
        chosen=chosen,
    )
    before = {number: signal.signal(number, _interrupt) for number in _ENDING}
    try:
        status = exit_status(runner.run())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(f"\nReport: {given.out / 'first_gpu.md'}")
    return status


# A closed terminal and a time limit from outside end the command at work, too.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _numbers(text: str, known: Sequence[int]) -> list[int] | None:
    """The numbers of ``"1-3,7"``; None where it is not made of known ones."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdigit() or (dash and not last.strip().isdigit()):
            return None
        found += range(int(first), int(last if dash else first) + 1)
    return found if found and set(found) <= set(known) else None
