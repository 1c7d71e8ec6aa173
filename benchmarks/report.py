"""Rows of results, the header above them, and both as Markdown and JSON."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

Status = Literal["PASS", "FAIL", "-", "SKIP"]


@dataclass(frozen=True)
class Row:
    """One number, its goal, and whether it is met.

    Args:
        benchmark: which one measured it.
        what: what was measured, and on what.
        measured: as a text with its unit.
        goal: as a text; empty where there is none.
        status: ``"PASS"`` or ``"FAIL"`` with a goal, ``"-"`` without, ``"SKIP"`` if not measured.
        deterministic: the same on every machine, so that a failure fails the command.
    """

    benchmark: str
    what: str
    measured: str
    goal: str = ""
    status: Status = "-"
    deterministic: bool = False


def judged(
    benchmark: str, what: str, measured: str, goal: str, met: bool, *, deterministic: bool = False
) -> Row:
    """A row with a goal."""
    return Row(benchmark, what, measured, goal, "PASS" if met else "FAIL", deterministic)


def equality(benchmark: str, what: str, equal: bool) -> Row:
    """A row whose goal are equal bits."""
    measured = "equal" if equal else "different"
    return judged(benchmark, what, measured, "equal in every bit", equal, deterministic=True)


def header() -> dict[str, str]:
    """On what, with which versions, of which commit."""
    names = ("torch", "diffusers", "transformers", "numpy")
    return {
        "processor": _processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "commit": _commit(),
    }


def markdown_header(facts: dict[str, str]) -> str:
    """The header as one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = ["| benchmark | what | measured | goal | |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row.benchmark, row.what, row.measured, row.goal, row.status)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(facts: dict[str, str], rows: list[Row]) -> dict[str, object]:
    """The same for a file."""
    return {"header": facts, "rows": [asdict(row) for row in rows]}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    return f"{name} ({len(models) or 'unknown number of'} cores, 1 thread used)"


def _commit() -> str:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = " with changes" if git("status", "--porcelain", "--", "..") else ""
        return git("rev-parse", "--short", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
