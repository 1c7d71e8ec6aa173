"""The table of conditions of transformers: ``python -m tests.transformers.transformer_matrix``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "conditions_transformers.md"
START, END = "<!-- transformers' conditions: begin -->", "<!-- transformers' conditions: end -->"

if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "pipelines")]

from transformer_conditions import CONDITIONS, FAMILIES, Condition  # noqa: E402  # after the path
from transformer_outcome import outcome  # noqa: E402


def rows() -> dict[str, list[Condition]]:
    """The variants of each row, in the order of the table."""
    named: dict[str, list[Condition]] = {}
    for condition in CONDITIONS:
        named.setdefault(condition.name, []).append(condition)
    return named


def render(cells: dict[tuple[str, str], str]) -> str:
    """Markdown from the outcome of each row and column."""
    lines = ["| condition | " + " | ".join(f"`{family}`" for family in FAMILIES) + " |"]
    lines.append("|---" * (1 + len(FAMILIES)) + "|")
    lines += [
        f"| {name} | " + " | ".join(cells[name, family] for family in FAMILIES) + " |"
        for name in rows()
    ]
    return "\n".join(lines)


def documented() -> dict[tuple[str, str], str]:
    """The outcomes that stand in the documentation."""
    table = DOCUMENT.read_text(encoding="utf-8").split(START)[1].split(END)[0].strip()
    found = {}
    for line in table.splitlines()[2:]:
        name, *outcomes = (cell.strip() for cell in line.strip("|").split(" | "))
        found |= {(name, family): cell for family, cell in zip(FAMILIES, outcomes, strict=True)}
    assert render(found) == table, "a row is not as the generator writes it"
    return found


def text_of(found: dict[str, str], untried: list[Condition]) -> str:
    """A cell, from the outcome of each variant that was tried, and the others."""
    if not found:
        return untried[0].why_not
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{variant}: {text}" for variant, text in found.items())


def cell(name: str, family: str) -> str:
    """Run every variant of a row with a pipeline."""
    variants = rows()[name]
    untried = [condition for condition in variants if not condition.tried(family)]
    found = {
        condition.variant: outcome(condition, family)
        for condition in variants
        if condition.tried(family)
    }
    return text_of(found, untried)


def main() -> None:
    """Run everything and write the table into the documentation."""
    torch.set_num_threads(1)
    cells = {}
    for name in rows():
        for family in FAMILIES:
            cells[name, family] = cell(name, family)
            print(name, family, cells[name, family], sep=" | ", flush=True)
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(START)
    table = f"{START}\n{render(cells)}\n{END}"
    DOCUMENT.write_text(head + table + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
