"""Virtual environments of a check, made anew, and what pip puts into them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from release.steps import command

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


class Environment:
    """A virtual environment in a folder.

    Args:
        folder: where it is.
        python: the interpreter that it is made with.
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self._made_with = python

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def make(self) -> None:
        """Make it, in place of one that is there."""
        command(self._made_with, "-m", "venv", "--clear", self.folder)

    def install(self, *arguments: str | Path) -> None:
        """Have pip install something."""
        command(self.python, "-m", "pip", "install", "--quiet", *arguments)

    def versions(self) -> dict[str, str]:
        """What is installed, by normalized name."""
        lines = command(self.python, "-m", "pip", "list", "--format", "freeze").splitlines()
        pairs = (line.partition("==")[::2] for line in lines if "==" in line)
        return {normalized(name): version for name, version in pairs}


def normalized(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: Path) -> dict[str, str]:
    """The versions of a constraints file, by normalized name."""
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    pairs = (line.partition("==")[::2] for line in lines if line)
    return {normalized(name): version for name, version in pairs}


def pinned(names: Sequence[str], file: Path = CONSTRAINTS) -> list[str]:
    """Requirements of the versions that a constraints file has."""
    found = pins(file)
    return [f"{name}=={found[normalized(name)]}" for name in names]
