"""A table with as many columns as it takes, beside the rows that every benchmark returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of as many cells.

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
                    f"A row of {len(row)} cells, {row}, in a table of {len(self.columns)} "
                    f"columns, {self.columns}. Give each column a cell."
                )

    def markdown(self) -> str:
        """The title in bold, and the table."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}"


def _cell(text: str) -> str:
    """On one line, with no end of the cell inside."""
    return " ".join(text.split()).replace("|", "\\|")
