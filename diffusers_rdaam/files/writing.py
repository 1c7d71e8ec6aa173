"""Writing a file: whole or not at all, never through a link, with no name in common with others."""

from __future__ import annotations

import errno
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from diffusers_rdaam.errors import InputError

# Endings of other formats: who reads such a file later would take it for what it is not.
FOREIGN_SUFFIXES = frozenset(
    [
        ".pt",
        ".pth",
        ".ckpt",
        ".bin",
        ".pkl",
        ".pickle",
        ".joblib",
        ".npy",
        ".npz",
        ".mat",
        ".h5",
        ".hdf5",
        ".onnx",
        ".gguf",
        ".ggml",
        ".pb",
        ".msgpack",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".txt",
        ".md",
        ".html",
        ".yaml",
        ".yml",
        ".toml",
        ".xml",
        ".parquet",
        ".zip",
        ".tar",
        ".gz",
        ".xz",
        ".bz2",
        ".7z",
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".pdf",
        ".svg",
        ".py",
    ]
)


@contextmanager
def replacing(path: Path, noun: str = "file") -> Iterator[BinaryIO]:
    """A new file, which takes the place of ``path`` when the block ends without an exception.

    The bytes go to a file of an unpredictable name in the same folder, which only this call has, so
    that several writers of one path do not disturb each other: the last to finish is what remains.
    A link at ``path`` is replaced and never followed. After an exception nothing is left behind.

    Args:
        path: of the file.
        noun: what is written, for errors.

    Raises:
        InputError: the folder does not exist or may not be written, or ``path`` is a folder, a pipe
            or a device.
    """
    try:
        check_target(path)
        temporary = path.with_name(f".{secrets.token_hex(12)}.part")
        try:
            # Exclusive creation, which also refuses a link of that name.
            with temporary.open("xb") as file:
                yield file
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    # ValueError: a path with a character that no path may have; text that is no Unicode.
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        full = getattr(error, "errno", None) == errno.ENOSPC
        cure = "Make room on the disk, or give" if full else "Give"
        raise InputError(
            f"The {noun} could not be written to {path}: {reason(error, path)}. {cure} a path in a "
            "folder that exists and may be written."
        ) from error


def reason(error: Exception, path: Path) -> str:
    """Why a path cannot be written, without the temporary file's name, which nobody gave."""
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {path.parent}"
    return str(getattr(error, "strerror", None) or error)


def write_text(path: Path, text: str, noun: str = "file") -> None:
    """Write UTF-8 text as :func:`replacing` does."""
    with replacing(path, noun) as file:
        file.write(text.encode())


def check_target(path: Path) -> None:
    """Refuse a path without a name, and one where there is something other than a file or link.

    Raises:
        OSError, ValueError: it is one of these.
    """
    if not path.name:
        raise ValueError(f"{str(path)!r} has an empty name")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("there is a folder of that name")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError("there is a pipe, socket or device of that name, not a file")


def check_suffix(path: Path, noun: str) -> None:
    """Refuse the ending of another format; ``.safetensors``, none and unknown ones are right.

    Raises:
        InputError: the name ends as files of another format do.
    """
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        raise InputError(
            f"The {noun} is written as safetensors, and {path.name[-80:]!r} ends as files of "
            f"another format do. Name it {path.with_suffix('.safetensors').name[-80:]!r}."
        )
