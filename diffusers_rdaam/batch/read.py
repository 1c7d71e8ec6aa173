"""read_batch: the rows of a batch, with their images and attributions opened."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.batch.extra import import_arrow
from diffusers_rdaam.errors import BatchError, InputError, NoAttributionError

# Rows in memory at once.
_ROWS = 16


@dataclass(frozen=True, eq=False)
class BatchRow:
    """One row of a batch: what was asked for and what came of it.

    Args:
        values: by the names of the columns, images and attributions as bytes.
    """

    values: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """The row's name."""
        return str(self.values["id"])

    @property
    def prompt(self) -> str | None:
        """What was generated, or what the image shows."""
        return self.values["prompt"]

    @property
    def error(self) -> str | None:
        """Why the row failed; None if it did not."""
        return self.values["error"]

    @cached_property
    def image(self) -> Image.Image | None:
        """The image; None where the row failed before there was one."""
        content = self.values["image"]
        if content is None:
            return None
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.load()
        return image

    @cached_property
    def attribution(self) -> Attribution:
        """The attribution, with its image.

        Raises:
            NoAttributionError: the row failed before there was one.
        """
        content = self.values["attribution"]
        if content is None:
            raise NoAttributionError(f"Row {self.id!r} has no attribution: {self.error}")
        return Attribution.from_bytes(content).with_image(self.image)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the run."""
        return json.loads(self.values["facts"] or "{}")

    def __repr__(self) -> str:
        state = "" if self.error is None else f", error={self.error[:60]!r}"
        return f"BatchRow({self.id!r}, {(self.prompt or '')[:60]!r}{state})"


def read_batch(out: str | Path) -> Iterator[BatchRow]:
    """The rows of a batch in order, a few in memory at once.

    Args:
        out: the folder that :func:`run_batch` or ``rdaam batch`` wrote.

    Raises:
        InputError: there is no batch.
        BatchError: it is not complete.
    """
    path = Path(out)
    if not (path / "batch.json").is_file():
        if (path / ".batch" / "job.json").is_file():
            raise BatchError(
                f"The batch in {path} is not complete. Go on with it by the same command with "
                "--resume (resume=True)."
            )
        raise InputError(f"There is no batch in {path}. Give the folder that rdaam batch wrote.")
    return _rows(path)


def _rows(path: Path) -> Iterator[BatchRow]:
    arrow, parquet = import_arrow(), import_arrow("pyarrow.parquet")
    for name in _files(path):
        try:
            with parquet.ParquetFile(path / name) as reader:
                for batch in reader.iter_batches(batch_size=_ROWS, use_threads=False):
                    for values in batch.to_pylist():
                        yield BatchRow(values)
        except (OSError, arrow.ArrowException) as error:
            raise BatchError(
                f"{path / name} is missing or damaged: {str(error)[:300]}. Copy the batch again, "
                "or remove the file and run the same command with --resume (resume=True)."
            ) from error


def _files(path: Path) -> list[str]:
    """The files of rows, as ``batch.json`` lists them."""
    summary = path / "batch.json"
    try:
        return [str(file["file"]) for file in json.loads(summary.read_text("utf-8"))["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BatchError(f"{summary} is damaged: {error!r:.200}. Copy the batch again.") from error
