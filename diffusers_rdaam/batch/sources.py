"""The input of a batch: which format a path is, which columns it has, and its rows in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.batch.extra import import_arrow
from diffusers_rdaam.batch.prompt_row import COLUMNS
from diffusers_rdaam.batch.text_sources import (
    MAX_JSON,
    SourceRow,
    csv_names,
    csv_rows,
    json_rows,
    jsonl_rows,
    text_rows,
)
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.opening import inner_path
from diffusers_rdaam.suggestions import nearest

InputFormat = Literal["jsonl", "csv", "tsv", "parquet", "text", "json", "dataset"]
_ENDINGS: dict[str, InputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".json": "json",
}
_FORMS = (
    "a .jsonl, .csv, .tsv, .parquet, .txt or .json file (a list, or captions of COCO), a folder of "
    "Parquet files, or a folder that save_to_disk of datasets wrote"
)
# Rows of a Parquet or Arrow file in memory at once: each may have an image.
_ROWS = 64


@dataclass(frozen=True)
class BatchInput:
    """Where rows come from.

    Args:
        path: a file or folder.
        input_format: of it; by its ending if not given.
        columns: names in the input by the names of :data:`COLUMNS`, where they differ.
        ignore: whether columns of other names are left out; they are refused if not.
        split: of a folder with several, as ``datasets`` writes them.
        images: the folder of the images of COCO's captions.

    Raises:
        InputError: there is no such file or folder, or its format is not known.
    """

    path: Path
    input_format: InputFormat | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    ignore: bool = False
    split: str | None = None
    images: Path | None = None

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        if self.input_format is None:
            object.__setattr__(self, "input_format", _format_of(self.path))
        check_choice(self.input_format, InputFormat, "a format of rows")
        if self.split is not None and self.input_format != "dataset":
            raise InputError(
                f"{self.path} has no splits, which a folder of datasets has; leave --split "
                "(split=) out."
            )
        if self.images is not None and not self.images.is_dir():
            raise InputError(f"There is no folder of images at {self.images}.")

    def rows(self) -> Iterator[SourceRow]:
        """The rows in order, with the columns that a batch has, under their names here.

        Raises:
            InputError: the columns are wrong, or the file cannot be read.
        """
        return _renamed(self._read(), self.columns, self.ignore, self.name)

    @property
    def name(self) -> str:
        """The input, for errors."""
        return str(self.path)

    @property
    def base(self) -> Path:
        """The folder that the paths of images are relative to."""
        return (self.path if self.path.is_dir() else self.path.parent).absolute()

    def _read(self) -> Iterator[SourceRow]:
        path, kind = self.path, self.input_format
        self._check_head(self._head())
        if kind == "jsonl":
            return jsonl_rows(path)
        if kind in ("csv", "tsv"):
            return csv_rows(path, "," if kind == "csv" else "\t")
        if kind == "text":
            return text_rows(path)
        if kind == "json":
            if path.stat().st_size > MAX_JSON:
                raise InputError(
                    f"{path} has over {MAX_JSON} bytes. Write an object a line, .jsonl."
                )
            return json_rows(path, self.images)
        files = self._arrow_files()
        return _parquet_rows(files) if kind == "parquet" else _arrow_rows(files)

    def _head(self) -> list[str] | None:
        """The names of the columns, where the format has them in one place."""
        if self.input_format in ("csv", "tsv"):
            return csv_names(self.path, "," if self.input_format == "csv" else "\t")
        if self.input_format == "parquet":
            return _parquet_names(self._arrow_files()[0])
        if self.input_format == "dataset":
            return _arrow_names(self._arrow_files()[0])
        return None

    def _check_head(self, names: list[str] | None) -> None:
        if names is None:
            return
        prompt = self.columns.get("prompt", "prompt")
        missing = [name for name in self.columns.values() if name not in names]
        if names and (prompt not in names or missing):
            lacking = missing[0] if missing else prompt
            close = nearest(lacking, names)
            hint = f" Did you mean {close!r}?" if close is not None else ""
            raise InputError(
                f"{self.path} has no column {lacking!r}.{hint} It has: {', '.join(names)[:500]}. "
                "Name the column of the prompts with --column prompt=NAME "
                '(columns={"prompt": "NAME"}).'
            )
        known = {self.columns.get(name, name) for name in COLUMNS}
        unknown = [name for name in names if name not in known]
        if unknown and not self.ignore:
            raise _unknown(unknown[0], "the first line", self.name, self.columns)

    def _arrow_files(self) -> list[Path]:
        if self.input_format == "dataset":
            return _dataset_files(self.path, self.split)
        if self.path.is_dir():
            return sorted(self.path.glob("*.parquet")) or sorted(self.path.glob("data/*.parquet"))
        return [self.path]


@dataclass(frozen=True)
class ListedRows:
    """Rows that are in memory.

    Args:
        given: the rows.
        columns, ignore: as of :class:`BatchInput`.
    """

    given: tuple[Any, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    ignore: bool = False

    def __post_init__(self) -> None:
        _check_columns(self.columns)

    def rows(self) -> Iterator[SourceRow]:
        """The rows in order; one that is a text is a prompt.

        Raises:
            InputError: a column has another name.
        """
        return _renamed(self._read(), self.columns, self.ignore, self.name)

    def _read(self) -> Iterator[SourceRow]:
        for number, row in enumerate(self.given):
            place = f"row {number}"
            if isinstance(row, str):
                yield SourceRow(place, {self.columns.get("prompt", "prompt"): row})
            elif isinstance(row, Mapping):
                yield SourceRow(place, dict(row))
            else:
                problem = f"{place} is a {type(row).__name__}, and a row is a mapping or a text"
                yield SourceRow(place, problem=problem)

    @property
    def name(self) -> str:
        """The input, for errors."""
        return "the rows"

    @property
    def base(self) -> Path:
        """The folder that the paths of images are relative to."""
        return Path.cwd()


def _check_columns(columns: Mapping[str, str]) -> None:
    for name, column in columns.items():
        if name not in COLUMNS or not isinstance(column, str):
            close = nearest(name, COLUMNS)
            hint = "" if close is None else f" Did you mean {close!r}?"
            raise InputError(
                f"{name!r} is not a column of a batch.{hint} Columns: {', '.join(COLUMNS)}. "
                'Give such as --column prompt=caption (columns={"prompt": "caption"}).'
            )


def _renamed(
    rows: Iterator[SourceRow], columns: Mapping[str, str], ignore: bool, name: str
) -> Iterator[SourceRow]:
    """The rows with the columns of a batch, under the names that they have here."""
    wanted = {columns.get(column, column): column for column in COLUMNS}
    for row in rows:
        unknown = [column for column in row.fields if column not in wanted]
        if unknown and not ignore:
            raise _unknown(unknown[0], row.place, name, columns)
        found = {wanted[key]: value for key, value in row.fields.items() if key in wanted}
        yield SourceRow(row.place, found, row.problem)


def _unknown(column: str, place: str, name: str, columns: Mapping[str, str]) -> InputError:
    names = [columns.get(known, known) for known in COLUMNS]
    close = nearest(column, names)
    hint = "" if close is None else f" Did you mean {close!r}?"
    return InputError(
        f"{str(column)[:80]!r} ({place} of {name}) is not a column of a batch.{hint} "
        f"Columns: {', '.join(names)}. Give a column its name with such as --column "
        'prompt=caption (columns={"prompt": "caption"}), or leave the others out with '
        "--ignore-columns (ignore_columns=True)."
    )


def _format_of(path: Path) -> InputFormat:
    try:
        if path.is_dir():
            if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
                return "dataset"
            if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
                return "parquet"
            raise InputError(f"The folder {path} has no rows. Give {_FORMS}.")
        if not path.exists():
            raise InputError(f"There is no input at {path}. Give {_FORMS}.")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}.") from error
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        raise InputError(
            f"The ending of {path.name!r} does not say which format it is. Give {_FORMS}; or name "
            "the format with --input-format (input_format=)."
        )
    return found


def _dataset_files(path: Path, split: str | None) -> list[Path]:
    """The Arrow files of a data set on disk, which need no library of that name."""
    folder = path
    splits = _json(path / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        if split is None and len(splits) == 1:
            split = splits[0]
        if split not in splits:
            raise InputError(
                f"{path} has the splits {', '.join(map(str, splits))}; {split!r} is not one. Name "
                "one with --split (split=)."
            )
        folder = inner_path(path, str(split), "a split")
    elif split is not None:
        raise InputError(f"{path} has no splits; leave --split (split=) out.")
    listed = _json(folder / "state.json").get("_data_files")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{folder} has no list of Arrow files. Give {_FORMS}.")
    return [inner_path(folder, str(one.get("filename")), "a file of rows") for one in listed]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _parquet_names(path: Path) -> list[str]:
    arrow = import_arrow()
    try:
        return list(import_arrow("pyarrow.parquet").read_schema(path).names)
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, "Parquet", error) from error


def _arrow_names(path: Path) -> list[str]:
    arrow = import_arrow()
    try:
        with path.open("rb") as file, arrow.ipc.open_stream(file) as reader:
            return list(reader.schema.names)
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, "Arrow", error) from error


def _parquet_rows(files: Sequence[Path]) -> Iterator[SourceRow]:
    arrow, parquet = import_arrow(), import_arrow("pyarrow.parquet")
    count = 0
    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                    yield from _table_rows(batch, count)
                    count += batch.num_rows
        except (OSError, arrow.ArrowException) as error:
            raise _unreadable(path, "Parquet", error) from error


def _arrow_rows(files: Sequence[Path]) -> Iterator[SourceRow]:
    arrow = import_arrow()
    count = 0
    for path in files:
        try:
            with path.open("rb") as file, arrow.ipc.open_stream(file) as reader:
                for whole in reader:
                    for start in range(0, whole.num_rows, _ROWS):
                        batch = whole.slice(start, _ROWS)
                        yield from _table_rows(batch, count)
                        count += batch.num_rows
        except (OSError, arrow.ArrowException) as error:
            raise _unreadable(path, "Arrow", error) from error


@dataclass(frozen=True, repr=False)
class UnreadableCell:
    """A cell that has no value in Python: text that is not UTF-8, a date of the year 20000.

    Where its column is one of a batch, the row says so; other cells and rows are not touched.
    """

    reason: str

    def __repr__(self) -> str:
        return f"a value that cannot be read ({self.reason[:40]})"


def _table_rows(batch: Any, count: int) -> Iterator[SourceRow]:
    columns = [_values(column) for column in batch.columns]
    for number, cells in enumerate(zip(*columns, strict=True), count):
        pairs = zip(batch.schema.names, cells, strict=True)
        yield SourceRow(f"row {number}", {name: cell for name, cell in pairs if cell is not None})


def _values(column: Any) -> list[Any]:
    """The cells of a column in Python."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return UnreadableCell(str(error))


def _unreadable(path: Path, kind: str, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as {kind}: {str(error)[:300]}.")
