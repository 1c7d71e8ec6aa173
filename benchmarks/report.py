"""Rows of results, and results of benchmarks, as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.header import markdown_header
from benchmarks.table import Table

Status = Literal["PASS", "FAIL", "-", "SKIP"]
COLUMNS = ["benchmark", "what", "measured", "goal", ""]


@dataclass(frozen=True)
class Row:
    """One number, its goal, and whether it is met.

    Args:
        benchmark: which one measured it.
        what: what was measured, and on what.
        measured: as a text with its unit.
        goal: as a text; empty where there is none.
        status: ``"PASS"`` or ``"FAIL"`` with a goal, ``"-"`` without, ``"SKIP"`` if not measured.
        deterministic: the same on every machine, so that a failure fails the command. What is not
            counts as a time, and is withheld where the tests that guard it are red.
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


@dataclass(frozen=True)
class Result:
    """What one benchmark found.

    Args:
        benchmark: its name.
        rows, tables: in the order in which they are shown.
        seconds: of wall time that it took.
        guards: what was seen of the tests that guard its times, in words.
    """

    benchmark: str
    rows: tuple[Row, ...]
    tables: tuple[Table, ...] = ()
    seconds: float = 0.0
    guards: str = ""


def rows_of(results: Sequence[Result]) -> list[Row]:
    """The rows of all results."""
    return [row for result in results for row in result.rows]


def failures(results: Sequence[Result], *, strict: bool = False) -> list[Row]:
    """The rows that fail the command.

    Args:
        strict: whether missed times fail it, too.
    """
    missed = [row for row in rows_of(results) if row.status == "FAIL"]
    return [row for row in missed if row.deterministic or strict]


def summary(results: Sequence[Result]) -> str:
    """How many goals were missed, and what was not measured."""
    statuses = [row.status for row in rows_of(results)]
    missed, skipped = statuses.count("FAIL"), statuses.count("SKIP")
    text = f"goals missed: {missed}" if missed else "all goals met that were measured"
    return f"{text}; rows not measured: {skipped}" if skipped else text


def as_markdown(facts: dict[str, str], results: Sequence[Result]) -> str:
    """Header, one table of all rows, and the benchmarks' own tables."""
    cells = [
        [row.benchmark, row.what, row.measured, row.goal, row.status] for row in rows_of(results)
    ]
    tables = [Table("Results", COLUMNS, cells)]
    tables += [table for result in results for table in result.tables]
    parts = [markdown_header(facts), _guards(results), *(table.markdown() for table in tables)]
    return "\n\n".join(parts)


def as_json(facts: dict[str, str], results: Sequence[Result]) -> dict[str, Any]:
    """The same for a file."""
    return {
        "header": facts,
        "guards": {result.benchmark: result.guards for result in results},
        "seconds": {result.benchmark: round(result.seconds, 3) for result in results},
        "rows": [asdict(row) for row in rows_of(results)],
        "tables": [
            {"benchmark": result.benchmark} | asdict(table)
            for result in results
            for table in result.tables
        ],
    }


def _guards(results: Sequence[Result]) -> str:
    """Which times were guarded by which outcome of their tests; benchmarks alike on one line."""
    alike: dict[str, list[str]] = {}
    for result in results:
        if result.guards:
            alike.setdefault(result.guards, []).append(result.benchmark)
    if not alike:
        return "No benchmark here times what a test guards."
    return "\n".join(f"Guards of {', '.join(names)}: {text}." for text, names in alike.items())
