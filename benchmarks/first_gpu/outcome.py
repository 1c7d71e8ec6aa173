"""What became of a command and of a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Result = Literal["passed", "FAILED", "timed out", "skipped", "running", "not reached"]
BAD: tuple[Result, ...] = ("FAILED", "timed out")


@dataclass
class CommandOutcome:
    """What became of one command.

    Args:
        name: of the command, within its step.
        command: as one would type it; empty until it is its turn.
        result: of it.
        reason: in words; of a passed one what it showed.
        seconds: of wall time that it took.
        limit: seconds that it was given.
        log: the name of the file with its output; empty where it has not run.
        tail: the end of its output, where it did not pass.
        rows: what it measured, as the benchmarks write rows as JSON.
        tables: likewise.
    """

    name: str
    command: str = ""
    result: Result = "not reached"
    reason: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    log: str = ""
    tail: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class StepOutcome:
    """What became of one step: the worst of its commands."""

    number: int
    title: str
    commands: list[CommandOutcome]

    @property
    def result(self) -> Result:
        """A step failed if a command did, and passed if one passed and none failed."""
        found = {command.result for command in self.commands}
        order: tuple[Result, ...] = ("running", *BAD, "passed", "skipped")
        return next((result for result in order if result in found), "not reached")

    @property
    def seconds(self) -> float:
        """Of wall time."""
        return sum(command.seconds for command in self.commands)

    @property
    def reason(self) -> str:
        """The reasons of its commands; each once where all ended alike, else with their names."""
        alike = len({command.result for command in self.commands}) == 1
        reasons = [
            command.reason if alike else f"{command.name} {command.result}: {command.reason}"
            for command in self.commands
            if command.reason
        ]
        return "; ".join(dict.fromkeys(reasons))


def exit_status(steps: list[StepOutcome]) -> int:
    """1 where a step failed, was ended for its time or was left at work; else 0."""
    return int(any(step.result in (*BAD, "running") for step in steps))
