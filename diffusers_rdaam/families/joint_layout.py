"""JointLayout: where image and text lie among the positions and columns of a transformer's call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class JointLayout:
    """Where image and text lie in the attention calls of one denoiser call, row by row.

    Args:
        queries: of each row the first position of the image among the queries.
        keys: of each row the first column of the image among the keys; empty where the image is
            not among them (cross-attention).
        text: of each row the key column of each column of the text embedding: the number of the
            first, if they follow each other; else all of them.
        row_by_row: whether the attention is computed in a call of its own for each row.
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    text: tuple[int | tuple[int, ...], ...]
    row_by_row: bool = False

    @classmethod
    def text_first(cls, rows: int, columns: int, skip: int = 0) -> JointLayout:
        """Keys and queries are ``[skipped, text, image, …]`` in every row."""
        image = (skip + columns,) * rows
        return cls(image, image, (skip,) * rows)

    @classmethod
    def image_first(cls, rows: int, positions: int, *, row_by_row: bool = False) -> JointLayout:
        """Keys and queries are ``[image, text]``; ``positions`` of the image with its padding."""
        return cls((0,) * rows, (0,) * rows, (positions,) * rows, row_by_row)

    @classmethod
    def cross(cls, rows: int, skip: int = 0) -> JointLayout:
        """Queries are the image's, keys ``[skipped, text]``."""
        return cls((0,) * rows, (), (skip,) * rows)

    def key_columns(self, row: int, columns: Sequence[int]) -> list[int]:
        """The key columns of some columns of a row's text embedding."""
        text = self.text[row]
        if isinstance(text, int):
            return [text + column for column in columns]
        return [text[column] for column in columns]

    def of_rows(self, start: int, stop: int) -> JointLayout:
        """The layout of some of the rows."""
        rows = slice(start, stop)
        return JointLayout(self.queries[rows], self.keys[rows], self.text[rows], self.row_by_row)
