"""OutputFolder: what a verb writes into ``--out``, and what an earlier run of it left there.

The folder has a list of the files that the command wrote, with their hashes, in the form that
``sha256sum`` checks. The next run removes exactly those that are still as they were written, so
that maps of an earlier prompt are not taken for the new one's. A file of a name that the verb would
use, and that is not on the list or was changed since, is somebody's own: the run is refused before
it starts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.writing import reason

LIST = "rdaam-files.sha256"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LONGEST_LIST = 16_000_000


class OutputFolder:
    """The folder of ``--out``.

    Args:
        path: of the folder; it is made where it is missing.
        patterns: of the names that the verb writes, such as ``"word-*.png"``.

    Raises:
        InputError: it cannot be written, or holds files of those names that are not the command's.
    """

    def __init__(self, path: Path, patterns: tuple[str, ...]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Without a name, or with a new one: an existing file is never opened for this.
            with tempfile.TemporaryFile(dir=path):
                pass
            foreign = self._foreign(patterns)
        except (OSError, ValueError) as error:
            raise _cannot_write(path, error) from error
        if foreign:
            shown = ", ".join(sorted(foreign)[:3]) + (", …" if len(foreign) > 3 else "")
            raise InputError(
                f"--out {path} holds {shown}, not written by this command or changed since, and "
                "would be overwritten or mistaken for a new file. Move it, or give another --out."
            )

    def _foreign(self, patterns: tuple[str, ...]) -> list[str]:
        known = self._listed()
        found = {path for pattern in patterns for path in self.path.glob(pattern)}
        names = [path.relative_to(self.path).as_posix() for path in found]
        return [name for name in names if self._hash(name) not in known.get(name, ())]

    def remove_earlier(self) -> int:
        """Remove what the command wrote before and nobody changed; how many files that were."""
        count = 0
        try:
            known = self._listed()
            for name, hashes in known.items():
                if self._hash(name) in hashes:
                    (self.path / name).unlink()
                    count += 1
                    if "/" in name:
                        with suppress(OSError):
                            (self.path / name).parent.rmdir()
            if known:
                (self.path / LIST).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return count

    def save(self, name: str, write: Callable[[Path], Any]) -> Path:
        """Have a file written elsewhere and put it in its place; returns its path.

        Args:
            name: in the folder.
            write: is given the path to write to, whose name is the same.
        """
        with self.scratch() as folder:
            write(folder / name)
            return self._place(folder / name, name)

    def adopt(self, folder: Path) -> list[Path]:
        """Put all files of a folder from :meth:`scratch` in their places, under the same names."""
        return [
            self._place(path, path.relative_to(folder).as_posix())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new folder within, on the same file system, that is gone afterwards."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=".rdaam-", dir=self.path))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise _cannot_write(self.path, error) from error

    def _place(self, source: Path, name: str) -> Path:
        target = self.path / name
        if target.parent != self.path:
            target.parent.mkdir(exist_ok=True)
            if target.parent.is_symlink():
                raise InputError(
                    f"{target.parent} is a link, and files are written inside of --out only. "
                    "Remove it, or give another --out."
                )
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        # Listed before it is there: what an interrupt leaves is then still the command's.
        self._append(f"{digest}  {name}\n")
        # In the place of a link, never through it.
        source.replace(target)
        return target

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.path / LIST, flags, 0o666)
        with os.fdopen(handle, "a", encoding="utf-8", newline="\n") as file:
            file.write(line)

    def _listed(self) -> dict[str, set[str]]:
        """The hashes of each file that the command wrote; of plain names inside the folder only."""
        path = self.path / LIST
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_LIST:
            return {}
        known: dict[str, set[str]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LINE.fullmatch(line)
            if match and _is_inside(match[2]):
                known.setdefault(match[2], set()).add(match[1])
        return known

    def _hash(self, name: str) -> str | None:
        """The hash of a regular file that is reached without a link; None for anything else."""
        path = self.path / name
        try:
            if path.parent != self.path and path.parent.is_symlink():
                return None
            if not stat.S_ISREG(path.lstat().st_mode):
                return None
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError):
            return None


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return 1 <= len(parts) <= 2 and name == "/".join(parts) and not {"..", "/"} & set(parts)


def _cannot_write(path: Path, error: Exception) -> InputError:
    why = getattr(error, "strerror", None) or error
    return InputError(
        f"--out {path} cannot be written: {why}. Give a folder that may be made or written."
    )


def write_file(path: Path, write: Callable[[Path], Any], what: str) -> Path:
    """Write one file under a temporary name and move it to its place; never through a link.

    Raises:
        InputError: it cannot be written; the text begins with ``what``.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".rdaam-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            temporary.replace(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{what} could not be written to {path}: {reason(error, path)}. Give a path in a "
            "folder that exists and may be written."
        ) from error
    return path
