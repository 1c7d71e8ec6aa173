"""One Markdown and one JSON of the first run, written anew after every command."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.first_gpu.expected import DEVICE, beside_expected
from benchmarks.first_gpu.outcome import CommandOutcome, StepOutcome
from benchmarks.table import Table

NAMES = ("first_gpu.json", "first_gpu.md")


@dataclass(frozen=True)
class Report:
    """Where and of what is reported.

    Args:
        folder: of the two files.
        facts: of the machine, by name; more of them once they are known.
        budget: seconds that the run was given.
        steps: what became of each, changed as they run.
    """

    folder: Path
    facts: dict[str, str]
    budget: float
    steps: Sequence[StepOutcome]

    def write(self) -> None:
        """Write both; a reader never sees half a file."""
        texts = (json.dumps(self.as_json(), indent=2), self.as_markdown())
        for name, text in zip(NAMES, texts, strict=True):
            new = self.folder / f".{name}"
            new.write_text(text + "\n")
            new.replace(self.folder / name)

    def as_json(self) -> dict[str, Any]:
        """Everything: header, steps with their commands and rows, ratios beside expectations."""
        return {
            "header": self.facts,
            "budget": self.budget,
            "seconds": round(sum(step.seconds for step in self.steps), 1),
            "steps": [
                {
                    "number": step.number,
                    "title": step.title,
                    "result": step.result,
                    "reason": step.reason,
                    "seconds": round(step.seconds, 1),
                    "commands": [asdict(command) for command in step.commands],
                }
                for step in self.steps
            ],
            "expected_for": DEVICE,
            "ratios": self._ratios(),
        }

    def as_markdown(self) -> str:
        """The same to read: a table of the steps, each step, and the ratios."""
        counts = Counter(step.result for step in self.steps)
        counted = ", ".join(f"{count} {result}" for result, count in counts.items())
        seconds = sum(step.seconds for step in self.steps)
        cells = [
            [str(step.number), step.title, step.result, f"{step.seconds:.0f}", step.reason]
            for step in self.steps
        ]
        parts = [
            "# The first run on a device",
            ", ".join(f"{name} {value}" for name, value in self.facts.items()),
            f"Steps: {counted}. {seconds:.0f} s of {self.budget:.0f} s.",
            Table("Steps", ["", "step", "result", "seconds", "why"], cells).markdown(),
            self._caveat(),
            _ratio_table(self._ratios()),
            *(part for step in self.steps for part in _of_step(step)),
        ]
        return "\n\n".join(parts)

    def _ratios(self) -> list[dict[str, str]]:
        return beside_expected(asdict(command) for step in self.steps for command in step.commands)

    def _caveat(self) -> str:
        name = self.facts.get("name")
        text = f"Expectations are estimates for an {DEVICE}, made before any GPU had run this"
        if name is None:
            return f"{text}; there is no CUDA device here."
        if DEVICE in name:
            return f"{text}."
        return f"{text}; this is an {name}, of which they say less."


def _ratio_table(ratios: Sequence[Mapping[str, str]]) -> str:
    columns = ["what", "measured", "expected", "verdict"]
    rows = [[ratio[name] for name in columns] for ratio in ratios]
    return Table("Measured next to what was expected", columns, rows).markdown()


def _of_step(step: StepOutcome) -> list[str]:
    parts = [f"## {step.number}. {step.title}: {step.result}"]
    for command in step.commands:
        parts += _of_command(command)
    return parts


def _of_command(command: CommandOutcome) -> list[str]:
    text = f"**{command.name}: {command.result}**"
    if command.reason:
        text += f" ({command.reason})"
    if command.limit:
        text += f", {command.seconds:.1f} s of {command.limit:.0f} s"
    if command.log:
        text += f"; output in `{command.log}`"
    parts = [text, *([f"    {command.command}"] if command.command else [])]
    if command.rows:
        cells = [[row["what"], row["measured"], row["goal"], row["status"]] for row in command.rows]
        parts.append(Table(command.name, ["what", "measured", "goal", ""], cells).markdown())
    parts += [
        Table(table["title"], table["columns"], table["rows"]).markdown()
        for table in command.tables
    ]
    if command.tail:
        # Indented: what was printed may hold whatever would end a fence.
        lines = "\n".join(f"    {line}" for line in command.tail.splitlines())
        parts += ["The end of its output:", lines]
    return parts
