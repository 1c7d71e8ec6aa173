"""Table: what a benchmark shows beside its rows, as Markdown and for a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table with columns of its own.

    Args:
        title: what is measured, on what.
        columns: their names.
        rows: a cell for each column, as text with its unit.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table {self.title!r} has {len(self.columns)} columns, and a row of "
                    f"{len(row)} cells: {row}."
                )

    def markdown(self) -> str:
        """The title, and the table below it."""
        lines = [_line(self.columns), "|" + "---|" * len(self.columns), *map(_line, self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
