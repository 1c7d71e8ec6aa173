"""BatchFolder: the files of a batch, each whole or not there, and what is left to do.

::

    README.md  batch.json            the card, and what was written; last of all
    data/part-00000-of-00012.parquet a file of rows: which ones, their number in the input decides
    files/00000003-…/                images and attributions as files, where they were asked for
    .batch/job.json                  the settings, and the digest of the input
    .batch/rows/00000.arrow          the rows of a file, as they were asked for
    .batch/parts/00000/…             the records of a file that is not complete, one by one
    .batch/done/00000.json           written once the file is there: its size and digest

A file of rows is made of its parts once all of them are there, so that a process that ends at any
moment loses the row that it was making, and nothing else. Two processes that make the same row or
file write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from diffusers_rdaam.batch.extra import import_arrow
from diffusers_rdaam.batch.output_schema import output_schema, table_of
from diffusers_rdaam.batch.plain_files import write_plain_files
from diffusers_rdaam.batch.prompt_row import PromptRow
from diffusers_rdaam.errors import BatchError, InputError
from diffusers_rdaam.files.writing import replacing

STATE = ".batch"
_PUBLIC = ("data", "files", "README.md", "batch.json")
_TEMPORARY = re.compile(r"\.[0-9a-f]{24}\.part")
# Rows in memory at once, when a file is put together.
ROW_GROUP = 32
GO_ON = (
    "What was written is whole. Remove the cause and run the same command with --resume "
    "(resume=True)."
)


@dataclass(frozen=True)
class FileOfRows:
    """One complete Parquet file.

    Args:
        file: its path in the folder.
        rows, errors: how many rows it has, and how many of them failed.
        size: in bytes.
        sha256: its digest.
    """

    file: str
    rows: int
    errors: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Job:
    """What was asked for, as it is kept in the folder.

    Args:
        identity: of the settings.
        digest: of the rows.
        rows, rows_per_file: how many rows there are, and in each file.
        plain: whether images and attributions are written as files as well.
    """

    identity: dict[str, Any]
    digest: str
    rows: int
    rows_per_file: int
    plain: bool

    @property
    def files(self) -> int:
        """How many files the output has."""
        return -(-self.rows // self.rows_per_file)


class BatchFolder:
    """The folder of a batch.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / STATE

    def job(self) -> Job | None:
        """The batch that is in the folder; None where none is, or only the beginning of one.

        Raises:
            InputError: the folder has files of other kinds under the names of a batch.
        """
        try:
            return Job(**json.loads((self.state / "job.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.state / 'job.json'} cannot be read: {error}. Give another --out (out=)."
            ) from error
        foreign = [name for name in _PUBLIC if (self.path / name).exists()]
        if foreign and not self.state.is_dir():
            raise InputError(
                f"{self.path} holds {', '.join(foreign)}, which no batch wrote and a batch would "
                "mix with its files. Give another --out (out=)."
            )
        return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder, for this process alone.

        Raises:
            InputError: another process works on it, or it cannot be made.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            file = (self.state / "lock").open("a")
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror or error}. Give --out (out=) a "
                "folder that may be made or written."
            ) from error
        with file:
            if not _lock(file):
                raise InputError(
                    f"Another process is working on the batch in {self.path}. Wait for it, or give "
                    "another --out (out=)."
                )
            yield

    def begin(self, job: Job, rows: Iterable[PromptRow]) -> None:
        """Keep the rows and, last, the job.

        Raises:
            BatchError: they cannot be written.
        """
        for name in ("rows", "parts", "done"):
            shutil.rmtree(self.state / name, ignore_errors=True)
        self.keep_rows(job, rows)
        self.write(f"{STATE}/job.json", json.dumps(asdict(job), indent=1))

    def has_rows(self, number: int) -> bool:
        """Whether the rows of a file are kept."""
        return (self.state / "rows" / f"{number:05d}.arrow").is_file()

    def keep_rows(self, job: Job, rows: Iterable[PromptRow]) -> None:
        """Keep the rows of each file.

        Raises:
            BatchError: they cannot be written.
        """
        group: list[PromptRow] = []
        number = 0
        for row in rows:
            group.append(row)
            if len(group) == job.rows_per_file:
                self._write_rows(number, group)
                group, number = [], number + 1
        if group:
            self._write_rows(number, group)

    def _write_rows(self, number: int, rows: list[PromptRow]) -> None:
        arrow = import_arrow()
        columns = {"row": [row.to_json() for row in rows], "pixels": [row.pixels for row in rows]}
        schema = arrow.schema([("row", arrow.string()), ("pixels", arrow.large_binary())])
        _write_table(self.state / "rows" / f"{number:05d}.arrow", arrow.table(columns, schema))

    def rows(self, number: int) -> list[PromptRow]:
        """The rows of a file, as they were asked for."""
        path = self.state / "rows" / f"{number:05d}.arrow"
        table = _read_table(path)
        if table is None:
            raise BatchError(
                f"{path} is missing or damaged, so that this batch cannot go on. Begin it "
                "again with another --out (out=)."
            )
        columns = table.to_pydict()
        return [
            PromptRow.from_json(text, pixels)
            for text, pixels in zip(columns["row"], columns["pixels"], strict=True)
        ]

    def done(self, number: int, job: Job) -> FileOfRows | None:
        """A file that is complete; None for one that is not there, or not as it was written."""
        try:
            text = (self.state / "done" / f"{number:05d}.json").read_text(encoding="utf-8")
            found = FileOfRows(**json.loads(text))
            size = (self.path / found.file).stat().st_size
        except (OSError, ValueError, TypeError):
            return None
        return found if size == found.size and found.file == file_name(number, job.files) else None

    def _part(self, number: int, index: int) -> Path:
        return self.state / "parts" / f"{number:05d}" / f"{index:08d}.arrow"

    def record(self, number: int, index: int) -> Any:
        """The record of a row as a table of one row; None where it is not there."""
        table = _read_table(self._part(number, index))
        right = table is not None and table.schema == output_schema() and table.num_rows == 1
        return table if right and table["index"][0].as_py() == index else None

    def keep(self, number: int, record: dict[str, Any]) -> None:
        """Write the record of a row.

        Raises:
            BatchError: it cannot be written.
        """
        _write_table(self._part(number, record["index"]), table_of([record]))

    def begun(self, number: int, index: int) -> int:
        """Note that a row begins; how often it had begun before, and did not end."""
        path = self._part(number, index).with_suffix(".begun")
        try:
            before = path.stat().st_size
        except OSError:
            before = 0
        with writing(path) as file:
            file.write(b"." * (before + 1))
        return before

    def finish(self, number: int, job: Job, indices: Iterable[int]) -> FileOfRows | None:
        """Put a file together from its parts; None where one of them is not there any more.

        Raises:
            BatchError: it cannot be written.
        """
        name = file_name(number, job.files)
        (self.path / "data").mkdir(exist_ok=True)
        count = errors = 0
        parquet = import_arrow("pyarrow.parquet")
        try:
            with writing(self.path / name) as file:
                # Dictionaries of images would be built to be thrown away.
                options = {"compression": "zstd", "use_dictionary": False}
                with parquet.ParquetWriter(file, output_schema(), **options) as writer:
                    for group in self._groups(number, indices):
                        writer.write_table(group)
                        count += group.num_rows
                        errors += group.num_rows - group["error"].null_count
                        if job.plain:
                            self._write_plain(group)
        except _MissingPart:
            return None
        digest = hashlib.sha256()
        with (self.path / name).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        size = (self.path / name).stat().st_size
        found = FileOfRows(name, count, errors, size, digest.hexdigest())
        self.write(f"{STATE}/done/{number:05d}.json", json.dumps(asdict(found)))
        shutil.rmtree(self._part(number, 0).parent, ignore_errors=True)
        return found

    def _groups(self, number: int, indices: Iterable[int]) -> Iterator[Any]:
        """The records of a file, as tables of several rows."""
        arrow = import_arrow()
        group: list[Any] = []
        for index in indices:
            table = self.record(number, index)
            if table is None:
                raise _MissingPart
            group.append(table)
            if len(group) == ROW_GROUP:
                yield arrow.concat_tables(group).combine_chunks()
                group = []
        if group:
            yield arrow.concat_tables(group).combine_chunks()

    def _write_plain(self, group: Any) -> None:
        for record in group.to_pylist():
            with _stopping(self.path / "files"):
                write_plain_files(self.path / "files", record)

    def rows_in_parts(self) -> int:
        """How many records of incomplete files are there."""
        count = 0
        with suppress(OSError):
            for folder in (self.state / "parts").iterdir():
                count += sum(1 for path in folder.iterdir() if path.suffix == ".arrow")
        return count

    def has_rows_made(self) -> bool:
        """Whether a record of any row is there, in a complete file or alone."""
        data = self.path / "data"
        return bool(self.rows_in_parts()) or (data.is_dir() and any(data.glob("*.parquet")))

    def sweep(self) -> None:
        """Remove what processes that were killed had not finished writing."""
        for folder in (self.path, self.path / "data", self.state, self.state / "done"):
            with suppress(OSError):
                for path in folder.iterdir():
                    if _TEMPORARY.fullmatch(path.name):
                        path.unlink()

    def close(self) -> None:
        """Remove what is needed no more once all is there."""
        for name in ("rows", "parts"):
            shutil.rmtree(self.state / name, ignore_errors=True)

    def write(self, name: str, text: str) -> None:
        """Write a file of text in the folder.

        Raises:
            BatchError: it cannot be written.
        """
        with writing(self.path / name) as file:
            file.write(text.encode())


class _MissingPart(Exception):
    """Another process has finished the file meanwhile, or removed a part of it."""


def file_name(number: int, files: int) -> str:
    """The path of a file of rows in its folder."""
    return f"data/part-{number:05d}-of-{files:05d}.parquet"


@contextmanager
def _stopping(path: Path) -> Iterator[None]:
    try:
        yield
    # InputError: what replacing() makes of a failure to write.
    except (OSError, InputError) as error:
        cause = error.__cause__ if isinstance(error, InputError) else error
        reason = getattr(cause, "strerror", None) or cause or error
        raise BatchError(
            f"The batch stopped: {path} could not be written: {reason}. {GO_ON}"
        ) from (error)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file, written whole or not at all, and on the disk once the block has ended.

    Raises:
        BatchError: it cannot be written.
    """
    with _stopping(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "batch") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


def _write_table(path: Path, table: Any) -> None:
    arrow = import_arrow()
    with writing(path) as file, arrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: Path) -> Any:
    """A table of an Arrow file; None where it is missing or not whole."""
    arrow = import_arrow()
    try:
        with arrow.ipc.open_file(arrow.py_buffer(path.read_bytes())) as reader:
            return reader.read_all()
    except (OSError, arrow.ArrowException):
        return None


def _lock(file: Any) -> bool:
    """Whether no other process has the file; it is released when this one ends, however it does."""
    try:
        import fcntl
    except ImportError:
        # Of systems without it, none ends one process's lock when it is killed.
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A network's file system may have no locks; files are whole there all the same.
        return True
    return True
