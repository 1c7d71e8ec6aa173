"""Evidence: one number with its interval and its bar, and all of them as JSON and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.header import markdown_header
from benchmarks.report import Row
from benchmarks.table import Table

# The order of the page.
SECTIONS = (
    "What the images show",
    "What defaults are chosen by",
    "Maps",
    "Maps of the scenes with steps, layers and heads",
    "Words of regions",
    "Other steps and guidance",
    "Sanity",
    "Drawn images",
)
# A table with more columns is divided.
WIDEST = 7
KINDS = ("phrase", "colour", "shape")


@dataclass(frozen=True)
class Evidence:
    """One number.

    Args:
        section: of :data:`SECTIONS`.
        way: what was measured: an aggregation, a ranking, a setting.
        what: which number of it.
        value, low, high: with its 95 % interval over scenes.
        scenes: how many it is of.
        threshold: that was used, where one was chosen on other scenes.
        bar: what it has to reach; None where there is no goal.
        at_most: whether the bar is from above.
        why: it was not measured; the number is NaN then.
    """

    section: str
    way: str
    what: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    scenes: int = 0
    threshold: str = ""
    bar: float | None = None
    at_most: bool = False
    why: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None where there is none, or nothing was measured."""
        if self.bar is None or self.why:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    @property
    def number(self) -> str:
        """The value with its interval, ``".812 (.801 to .823)"``."""
        if self.why:
            return "not measured"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def row(self, model: str) -> Row:
        """The number as the other benchmarks have theirs."""
        what = f"{model}: {self.section.lower()}: {self.way}: {self.what}"
        if self.threshold:
            what += f", threshold {self.threshold}"
        if self.why:
            return Row("truth", what, self.why, status="SKIP")
        goal = (
            "" if self.bar is None else f"{'at most' if self.at_most else 'at least'} {self.bar:g}"
        )
        status: Any = {None: "-", True: "PASS", False: "FAIL"}[self.met]
        return Row("truth", what, f"{self.number}; {self.scenes} scenes", goal, status)


def as_json(
    facts: dict[str, str], settings: dict[str, Any], found: Sequence[Evidence]
) -> dict[str, Any]:
    """Header (versions, hardware), settings (seeds, steps, thresholds) and every number."""
    return {
        "header": facts,
        "settings": settings,
        "evidence": [
            {
                name: None if isinstance(value, float) and value != value else value
                for name, value in asdict(one).items()
            }
            | {"met": one.met}
            for one in found
        ],
    }


def from_json(stored: dict[str, Any]) -> list[Evidence]:
    """The numbers that :func:`as_json` stored."""
    return [
        Evidence(
            **{
                name: float("nan") if value is None and name != "bar" else value
                for name, value in fields.items()
                if name != "met"
            }
        )
        for fields in stored["evidence"]
    ]


def as_markdown(facts: dict[str, str], settings: dict[str, Any], found: Sequence[Evidence]) -> str:
    """A table for each section: ways as lines, numbers as columns; missed bars in bold."""
    parts = [markdown_header(facts), ", ".join(f"{key} {value}" for key, value in settings.items())]
    for section in SECTIONS:
        entries = [one for one in found if one.section == section]
        parts += [table.markdown() for table in _section_tables(section, entries)]
    reasons = {f"{one.way}: {one.why}" for one in found if one.why}
    parts += [f"* {reason}" for reason in sorted(reasons)]
    return "\n\n".join(parts)


def _section_tables(section: str, entries: Sequence[Evidence]) -> list[Table]:
    """One table, or where that were too wide one for each kind of number."""
    measured = [one for one in entries if not one.why]
    columns = list(dict.fromkeys(one.what for one in measured))
    groups = {"": columns}
    if len(columns) > WIDEST:
        groups = {}
        for column in columns:
            groups.setdefault(_kind(column), []).append(column)
    return [_table(section, kind, names, measured) for kind, names in groups.items() if names]


def _kind(what: str) -> str:
    """What a number is of: ``"phrase"``, ``"first word"``, ``"top two"``."""
    first = what.split()[0]
    return first if first in KINDS else re.split("[,:]", what)[0]


def _table(section: str, kind: str, columns: Sequence[str], entries: Sequence[Evidence]) -> Table:
    of_columns = [one for one in entries if one.what in columns]
    rows = []
    for way in dict.fromkeys(one.way for one in of_columns):
        cells = {one.what: _cell(one) for one in of_columns if one.way == way}
        count = max(one.scenes for one in of_columns if one.way == way)
        rows.append([way, str(count), *(cells.get(column, "") for column in columns)])
    titles = [column.removeprefix(kind).lstrip(",: ") or column for column in columns]
    return Table(f"{section}: {kind}" if kind else section, ["", "scenes", *titles], rows)


def _cell(one: Evidence) -> str:
    text = f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
    if one.threshold:
        text += f" at {one.threshold}"
    if one.met is False:
        sign = "≤" if one.at_most else "≥"
        text = f"**{text}, bar {sign} {one.bar:g}**"
    return text
