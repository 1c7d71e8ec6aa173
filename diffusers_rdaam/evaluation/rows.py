"""The rows of a run on disk: one line an image, written whole, so that a run can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import replacing

SETTINGS, ROWS = "settings.json", "rows.jsonl"


class RowFile:
    """The folder of a run: its settings, and its rows so far.

    Args:
        folder: that is made.
        settings: what the numbers depend on, as JSON.

    Raises:
        InputError: the folder has a run with other settings, or files of something else; or it
            cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        wanted = json.loads(json.dumps(settings))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / SETTINGS).is_file():
                self._check(wanted)
                self.rows = self._read()
            else:
                check_folder(folder)
                with replacing(folder / SETTINGS, "settings") as file:
                    file.write((json.dumps(wanted, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error.strerror or error}.") from error

    def _check(self, wanted: dict[str, Any]) -> None:
        try:
            there = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{self.folder / SETTINGS} is not JSON: {error}. Give a new folder."
            ) from error
        differing = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
        if differing:
            first = sorted(differing)[0]
            raise InputError(
                f"{self.folder} has an evaluation with other settings: "
                f"{', '.join(sorted(differing))}; {first} was {_short(there.get(first))} and is "
                f"{_short(wanted.get(first))}. Numbers of two settings are not put together: give "
                "a new folder, or the same settings to continue."
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        """The whole lines; a last one that was cut off is removed from the file."""
        path = self.folder / ROWS
        if not path.is_file():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        rows: dict[str, dict[str, Any]] = {}
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                rows[row["id"]] = row
            except (ValueError, KeyError, TypeError):
                # A line of a file system that went down; its image is done again.
                continue
        if len(whole) != len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        return rows

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process writes rows at a time; the lock goes with the process.

        Raises:
            InputError: another process has it.
        """
        with (self.folder / ROWS).open("ab") as file:
            _lock(file.fileno(), self.folder)
            yield

    def add(self, row: dict[str, Any]) -> None:
        """Append a row and see that it is on disk.

        Raises:
            InputError: it cannot be written.
        """
        line = (json.dumps(row, separators=(",", ":")) + "\n").encode()
        path = self.folder / ROWS
        try:
            with path.open("ab", buffering=0) as file:
                start = file.tell()
                try:
                    if file.write(line) != len(line):
                        raise OSError("the file system took a part of it only")
                    os.fsync(file.fileno())
                except OSError:
                    # What was written in part would be read as one line with the next.
                    os.truncate(path, start)
                    raise
        except OSError as error:
            raise InputError(
                f"The row of {row['id']} cannot be written to {path}: {error.strerror or error}. "
                "The rows before it are kept: make room and start again."
            ) from error
        self.rows[row["id"]] = row


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be that of a run.

    Raises:
        InputError: it is a file, or has files and no run.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Give a new folder.")
    if folder.is_dir() and not (folder / SETTINGS).is_file() and any(folder.iterdir()):
        raise InputError(
            f"{folder} has files and no {SETTINGS}: it is not the folder of an evaluation. Give a "
            "new folder."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _lock(number: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        # Without locks of files two runs of one folder are not noticed.
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(
            f"Another process is writing to {folder}. Wait for it, or give another folder."
        ) from error
