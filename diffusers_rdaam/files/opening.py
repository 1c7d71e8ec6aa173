"""Opening a stranger's file: only a regular one, and inside of its folder where it has one."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from diffusers_rdaam.errors import AttributionFileError, InputError

MAX_TEXT = 16_000_000  # bytes of a file of text


@contextmanager
def opened(path: Path, noun: str = "file") -> Iterator[BinaryIO]:
    """A regular file, open for reading; a link to one is followed.

    A pipe, socket or device is refused before it is opened: it could wait for ever or never end.

    Args:
        path: of the file.
        noun: what it should be, for errors.

    Raises:
        AttributionFileError: there is no such file, it is not a regular one, or it may not be read.
    """
    try:
        _check_regular(path.stat().st_mode, path)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        number = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        if isinstance(error, AttributionFileError):
            raise
        raise AttributionFileError(f"There is no {noun} at {path}.") from error
    except OSError as error:
        raise AttributionFileError(f"{path} cannot be read: {error}.") from error
    with os.fdopen(number, "rb", buffering=0) as file:
        # Again: another file may have been put in its place.
        _check_regular(os.fstat(number).st_mode, path)
        yield file


def _check_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise AttributionFileError(
            f"{path} is a pipe, socket or device and is not read. Give the path of a regular file."
        )


def read_bytes(path: Path, noun: str = "file", *, limit: int = MAX_TEXT) -> bytes:
    """The content of a small file.

    Raises:
        AttributionFileError: as :func:`opened`, or it has over ``limit`` bytes.
    """
    with opened(path, noun) as file:
        try:
            # In one piece, unbuffered: what is read is at most the limit and one byte.
            parts, left = [], limit + 1
            while left and (part := file.read(min(left, 2**20))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise AttributionFileError(f"{path} cannot be read: {error}.") from error
    if not left:
        raise AttributionFileError(f"{path} has over {limit} bytes; no {noun} is so large.")
    return b"".join(parts)


def read_text(path: Path, noun: str = "file", *, limit: int = MAX_TEXT) -> str:
    """The UTF-8 text of a small file.

    Raises:
        AttributionFileError: as :func:`read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, noun, limit=limit).decode()
    except UnicodeDecodeError as error:
        raise AttributionFileError(f"{path} cannot be read as UTF-8 text: {error}.") from error


def is_inner_path(name: str) -> bool:
    """Whether a name within a folder stays in it, on every system: ``"."``, ``"a"``, ``"a/b"``."""
    windows = PureWindowsPath(name)
    steps = re.split(r"[/\\]", name)
    return (
        bool(name)
        and "\x00" not in name
        and not (windows.drive or windows.root or name.startswith("~"))
        and ".." not in steps
    )


def inner_path(folder: Path, name: str, what: str) -> Path:
    """``folder / name``, where neither the name nor a link leads out of the folder.

    Args:
        folder: where it has to stay; it may be a link itself.
        name: relative, such as ``"one"`` or ``"one/two"``.
        what: the name is of, for errors, such as ``"an experiment's id"``.

    Raises:
        InputError: it leads out.
    """
    if not isinstance(name, str) or not is_inner_path(name):
        raise InputError(
            f"{what} is the name of a folder within another; {str(name)[:80]!r} could lead out of "
            "it. Give a relative name without '..'."
        )
    path = folder / name
    check_no_way_out(folder, path)
    return path


def check_no_way_out(folder: Path, path: Path) -> None:
    """Refuse a path below ``folder`` that a link takes out of it.

    Raises:
        InputError: it does, or links go round in a circle.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    # RuntimeError: links in a circle, before Python 3.13.
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise InputError(
            f"{path} is a link that leads out of {folder}. Put the file itself into the folder."
        )
