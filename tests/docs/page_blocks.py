"""The pages, and the fenced blocks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```([\w-]*)[^\n]*\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the page's line on which the text begins."""

    language: str
    text: str
    line: int


def pages() -> dict[str, Path]:
    """Every page of the site and the README, by name: those of folders are ``folder/name``."""
    found = {path.relative_to(DOCS).with_suffix("").as_posix(): path for path in DOCS.rglob("*.md")}
    return {"README": ROOT / "README.md", **dict(sorted(found.items()))}


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match.group(1), match.group(2), text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


def python_blocks(page: Path) -> list[Block]:
    """The blocks of Python, under whichever of its names."""
    return [block for block in blocks(page) if block.language in ("python", "py", "python3")]
