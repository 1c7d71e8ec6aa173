"""The table of conditions: ``python -m tests.conditions.matrix`` runs all and writes it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "conditions.md"
START, END = "<!-- conditions: begin -->", "<!-- conditions: end -->"

if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "pipelines")]

from cell import outcome  # noqa: E402  # after the path that it lies in
from conditions import COLUMNS, CONDITIONS, Condition  # noqa: E402

NOT_TRIED = "not tested"


def rows() -> dict[str, list[Condition]]:
    """The variants of each row, in the order of the table."""
    named: dict[str, list[Condition]] = {}
    for condition in CONDITIONS:
        named.setdefault(condition.name, []).append(condition)
    return named


def render(cells: dict[tuple[str, str], str]) -> str:
    """Markdown from the outcome of each row and column."""
    lines = ["| condition | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---" * (1 + len(COLUMNS)) + "|")
    lines += [
        f"| {name} | " + " | ".join(cells[name, case] for case in COLUMNS) + " |" for name in rows()
    ]
    return "\n".join(lines)


def documented() -> dict[tuple[str, str], str]:
    """The outcomes that stand in the documentation."""
    table = DOCUMENT.read_text(encoding="utf-8").split(START)[1].split(END)[0].strip()
    found = {}
    for line in table.splitlines()[2:]:
        name, *outcomes = (cell.strip() for cell in line.strip("|").split(" | "))
        found |= {(name, case): cell for case, cell in zip(COLUMNS, outcomes, strict=True)}
    assert render(found) == table, "a row is not as the generator writes it"
    return found


def cell(name: str, case: str) -> str:
    """Run every variant of a row with a pipeline."""
    variants = [condition for condition in rows()[name] if condition.tested(case)]
    possible = [condition for condition in variants if condition.possible]
    if not possible:
        needs = sorted({condition.needs for condition in variants if condition.needs})
        return NOT_TRIED + (f": needs {', '.join(needs)}" if needs else "")
    found = {condition.variant: outcome(condition, case) for condition in possible}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{variant}: {text}" for variant, text in found.items())


def main() -> None:
    """Run everything and write the table into the documentation."""
    # Tiny models are fast on one thread; the tests run so too.
    torch.set_num_threads(1)
    cells = {(name, case): cell(name, case) for name in rows() for case in COLUMNS}
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(START)
    table = f"{START}\n{render(cells)}\n{END}"
    DOCUMENT.write_text(head + table + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
