"""What docs/notebook.md says of sizes."""

from __future__ import annotations

from pathlib import Path

from diffusers_rdaam.notebook.frame import LARGEST_CELL

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"


def test_the_page_says_the_limit() -> None:
    assert f"**at most\n{LARGEST_CELL / 1e6:g} MB**" in PAGE.read_text(encoding="utf-8")
