"""Rows of text files: JSONL, JSON, CSV, TSV, plain lines, and captions of COCO.

A line of any length is read in bounded memory, and what is wrong with one line is said of that row
alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import opened

MAX_LINE = 1_000_000  # bytes of a line, and characters of a cell
MAX_JSON = 2**31  # bytes of a JSON file, which is read as a whole
_BUFFER = 2**20


@dataclass(frozen=True)
class SourceRow:
    """A row as it stands in the input.

    Args:
        place: where, for errors, such as ``"line 12"``.
        fields: by the name of the column.
        problem: what is wrong with the row as a whole; None where it could be read.
    """

    place: str
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def jsonl_rows(path: Path) -> Iterator[SourceRow]:
    """An object a line; empty lines are left out."""
    for number, line in _lines(path):
        place = f"line {number}"
        if line is None:
            yield SourceRow(place, problem=_too_long(place))
            continue
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            yield SourceRow(place, problem=f"{place} is not JSON: {error}")
            continue
        if isinstance(value, dict):
            yield SourceRow(place, value)
        else:
            kind = type(value).__name__
            yield SourceRow(place, problem=f"{place} is a {kind}, and a row is a JSON object")


def text_rows(path: Path) -> Iterator[SourceRow]:
    """A prompt a line; empty lines are left out."""
    for number, line in _lines(path):
        place = f"line {number}"
        if line is None:
            yield SourceRow(place, problem=_too_long(place))
        elif line.strip():
            yield SourceRow(place, {"prompt": line.strip()})


def csv_rows(path: Path, delimiter: str) -> Iterator[SourceRow]:
    """A table whose first line has the names of the columns; empty cells are missing values.

    Raises:
        InputError: there is no first line, a column has no name or occurs twice, or a quotation
            mark is never closed.
    """
    long: list[str] = []

    def texts() -> Iterator[str]:
        for number, line in _lines(path):
            if line is None:
                # The rest of the table stays readable; the row has too few cells.
                long.append(f"line {number}")
                line = "\n"
            yield line

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    try:
        names = next(reader, None)
        if names is None:
            raise InputError(f"{path} is empty. Its first line has the names of the columns.")
        names = [name.strip() for name in names]
        _check_names(path, names)
        for cells in reader:
            place = f"line {reader.line_num}"
            if long:
                yield SourceRow(long[0], problem=_too_long(long.pop(0)))
            elif cells and len(cells) != len(names):
                count = f"{len(cells)} cells, and the first line has {len(names)}"
                yield SourceRow(place, problem=f"{place} has {count}")
            elif cells:
                row = dict(zip(names, cells, strict=True))
                yield SourceRow(place, {name: cell for name, cell in row.items() if cell.strip()})
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as a table after line {reader.line_num}: {error}. Often a "
            'quotation mark is not closed; inside of quotation marks each is written twice ("").'
        ) from error


def csv_names(path: Path, delimiter: str) -> list[str]:
    """The names of a table's columns; empty where the file is."""
    first = next(_lines(path), (1, ""))[1] or ""
    names = next(csv.reader([first], delimiter=delimiter), [])
    return [name.strip() for name in names]


def _check_names(path: Path, names: list[str]) -> None:
    if "" in names or len(set(names)) != len(names):
        raise InputError(
            f"The columns of {path} are {', '.join(map(repr, names))[:500]}: one has no name, or "
            "a name occurs twice. Give each column one name."
        )


def json_rows(path: Path, images: Path | None = None) -> Iterator[SourceRow]:
    """COCO's captions, a row for each; or a list of objects, each of which is a row.

    Args:
        path: of the file.
        images: the folder of COCO's images: each caption is then one of an image that exists.

    Raises:
        InputError: the file is neither.
    """
    with opened(path, "file of rows") as file:
        raw = b"".join(iter(lambda: file.read(_BUFFER), b""))
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        yield from _captions(path, value, images)
        return
    if not isinstance(value, list):
        raise InputError(
            f"{path} holds neither captions of COCO ('annotations' with a 'caption' each) nor a "
            "list of objects. For an object a line name it .jsonl."
        )
    for number, entry in enumerate(value):
        place = f"entry {number}"
        if isinstance(entry, dict):
            yield SourceRow(place, entry)
        else:
            yield SourceRow(place, problem=f"{place} is not an object, and a row is one")


def _captions(path: Path, value: dict[str, Any], images: Path | None) -> Iterator[SourceRow]:
    files: dict[Any, str] = {}
    for entry in value.get("images") or ():
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            files[str(entry.get("id"))] = entry["file_name"]
    if not any(isinstance(e, dict) and "caption" in e for e in value["annotations"]):
        raise InputError(
            f"None of the annotations in {path} has a caption. Give COCO's captions_….json, not "
            "its instances."
        )
    for number, entry in enumerate(value["annotations"]):
        place = f"annotation {number}"
        if not (isinstance(entry, dict) and isinstance(entry.get("caption"), str)):
            yield SourceRow(place, problem=f"{place} has no caption")
            continue
        fields: dict[str, Any] = {"prompt": entry["caption"].strip()}
        if "id" in entry:
            fields["id"] = entry["id"]
        if images is not None:
            name = files.get(str(entry.get("image_id")))
            if name is None:
                problem = f"{place} is of image {entry.get('image_id')!r}, which is not listed"
                yield SourceRow(place, problem=problem)
                continue
            fields["image"] = str(images / name)
        yield SourceRow(place, fields)


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """The lines with their numbers from 1; None for one that is too long.

    Bytes that are not UTF-8 become halves of surrogate pairs, which the check of a row names.
    """
    with opened(path, "file of rows") as raw:
        file: BinaryIO = io.BufferedReader(raw, _BUFFER)  # type: ignore[type-var]  # a raw file
        read, number, first = file.readline, 0, True
        while line := read(MAX_LINE + 1):
            number += 1
            if first and b"\x00" in line[:4096]:
                raise InputError(f"{path} is not UTF-8 text: it has zero bytes. Save it as UTF-8.")
            line, first = line.removeprefix(b"\xef\xbb\xbf") if first else line, False
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = read(MAX_LINE)
                yield number, None
            else:
                yield number, line.decode("utf-8", "surrogateescape")


def _too_long(place: str) -> str:
    return f"{place} has over {MAX_LINE} bytes"
