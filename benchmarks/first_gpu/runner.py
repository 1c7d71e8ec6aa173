"""Runs the steps: each command in a process of its own, within what is left of the budget."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.first_gpu.needs import missing, sanitizer
from benchmarks.first_gpu.outcome import CommandOutcome, StepOutcome
from benchmarks.first_gpu.process import run
from benchmarks.first_gpu.reading import read
from benchmarks.first_gpu.report import Report
from benchmarks.first_gpu.steps import ENVIRONMENT, Command, Step
from benchmarks.guards import ROOT

# A command that would get less is not begun.
LEAST = 20.0
# Whatever is left of the budget.
MOST = 600.0
FACTS_LIMIT = 120.0
# Of its limit, what a command that bounds itself is told.
PART = 0.9


class Runner:
    """Runs steps and reports after each command.

    Args:
        steps: in order.
        folder: of the reports, the output of every command, and Triton's cache.
        budget: seconds for all.
        facts: of the machine; a process of its own finds them if not given.
        inference_steps: of the pipeline's runs.
        chosen: the numbers of the steps to run; all if not given.
        clock: seconds.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        folder: Path,
        *,
        budget: float,
        facts: Mapping[str, str] | None = None,
        inference_steps: int = 20,
        chosen: Sequence[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.folder, self.facts = steps, folder.resolve(), facts
        self.inference_steps, self.chosen, self.clock = inference_steps, chosen, clock
        self.end = clock() + budget
        self.folder.mkdir(parents=True, exist_ok=True)
        outcomes = [
            StepOutcome(step.number, step.title, [CommandOutcome(c.name) for c in step.commands])
            for step in steps
        ]
        self.report = Report(self.folder, {}, budget, outcomes)

    def run(self) -> list[StepOutcome]:
        """What became of each step. After an interruption both reports say what was at work."""
        self.report.write()
        try:
            self.report.facts.update(self._find_facts() if self.facts is None else self.facts)
            pairs = [
                (step, command, outcome)
                for step, result in zip(self.steps, self.report.steps, strict=True)
                for command, outcome in zip(step.commands, result.commands, strict=True)
            ]
            for index, (step, command, outcome) in enumerate(pairs):
                to_come = [(other.number, following) for other, following, _ in pairs[index:]]
                self._run_one(step, command, outcome, to_come)
        finally:
            self.report.write()
        return list(self.report.steps)

    def _find_facts(self) -> Mapping[str, str]:
        """Versions and the device, in a process of their own; without them steps show the fault."""
        file, log = self.folder / "facts.json", self.folder / "facts.txt"
        file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.first_gpu.facts", str(file)]
        limit = max(LEAST, min(FACTS_LIMIT, self._left()))
        environment = self._environment({})
        ended = run(command, folder=ROOT, log=log, environment=environment, limit=limit)
        try:
            found: Mapping[str, str] = json.loads(file.read_text())
        except (OSError, ValueError):
            found = {"machine": f"unknown, {log.name} tells why ({ended.text})"}
        return found

    def _run_one(
        self,
        step: Step,
        command: Command,
        outcome: CommandOutcome,
        to_come: Sequence[tuple[int, Command]],
    ) -> None:
        outcome.command = self._shown(command)
        why = self._why_not(step.number, command)
        limit = 0.0 if why else self._limit(to_come)
        if not why and limit < LEAST:
            why = "no time left"
        if why:
            outcome.result, outcome.reason = "skipped", why
        else:
            outcome.result, outcome.limit = "running", limit
            outcome.log = f"{step.number:02}_{command.name}.txt"
            self.report.write()
            self._start(command, outcome, limit)
        print(
            f"{step.number:>2} {command.name:<18} {outcome.result:<10} {outcome.reason}", flush=True
        )
        self.report.write()

    def _start(self, command: Command, outcome: CommandOutcome, limit: float) -> None:
        log, rows = self.folder / outcome.log, self.folder / f"{command.name}.json"
        # Of an earlier run into the same folder.
        rows.unlink(missing_ok=True)
        arguments = [self._filled(text, limit) for text in self._arguments(command)]
        environment = self._environment(command.environment)
        ended = run(arguments, folder=ROOT, log=log, environment=environment, limit=limit)
        read(outcome, command, ended, log, rows)

    def _why_not(self, number: int, command: Command) -> str:
        if self.chosen is not None and number not in self.chosen:
            return "not asked for"
        return missing(command.needs, self.report.facts)

    def _limit(self, to_come: Sequence[tuple[int, Command]]) -> float:
        """A command's part of what is left: what is skipped leaves its time to the others."""
        shares = [other.seconds for number, other in to_come if not self._why_not(number, other)]
        left = self._left()
        # The last seconds go to one command whole.
        return min(left, MOST, max(LEAST, left * shares[0] / sum(shares)))

    def _left(self) -> float:
        return self.end - self.clock()

    def _arguments(self, command: Command) -> tuple[str, ...]:
        results = {c.name: c.result for step in self.report.steps for c in step.commands}
        guarded = all(results.get(name) == "passed" for name in command.guards)
        return (*command.arguments, *(["--no-guards"] if command.guards and guarded else []))

    def _filled(self, text: str, limit: float) -> str:
        values = {
            "python": sys.executable,
            "out": str(self.folder),
            "device": self.report.facts.get("device", "cuda"),
            "capability": self.report.facts.get("capability", "90"),
            "minutes": f"{PART * limit / 60:.2f}",
            "inference_steps": str(self.inference_steps),
            "sanitizer": sanitizer() or "compute-sanitizer",
        }
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """This process's variables, every command's and one command's own."""
        environment = dict(os.environ)
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
        for name, value in {**ENVIRONMENT, **changes}.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = self._filled(value, 0.0)
        return environment

    def _shown(self, command: Command) -> str:
        """As one would type it in the repository, the report's folder called OUT."""
        names = {
            **{f"{{{name}}}": value for name, value in self.report.facts.items()},
            # After the facts, which have the version of Python under this name.
            "{python}": "python",
            "{out}": "OUT",
            "{sanitizer}": "compute-sanitizer",
            "{minutes}": "MINUTES",
            "{inference_steps}": str(self.inference_steps),
        }
        words = [f"{name}={value}" for name, value in command.environment.items() if value]
        for text in self._arguments(command):
            for placeholder, name in names.items():
                text = text.replace(placeholder, name)
            words.append(shlex.quote(text))
        return " ".join(words)
