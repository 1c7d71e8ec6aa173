"""The viewers that docs/viewer.md links to."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "viewer.md"


def test_the_pages_to_try_are_there() -> None:
    """Each is small, holds what this version writes, and no path of the machine that wrote it."""
    links = re.findall(r"\((\.\./examples/[^)]*\.html)\)", PAGE.read_text(encoding="utf-8"))
    pages = sorted({(PAGE.parent / link).resolve() for link in links})
    assert len(pages) == 3 and all(page.is_file() for page in pages)
    assert set(pages) == set((ROOT / "examples").glob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(text) < 1_000_000
        assert 'id="rdaam-data"' in text and "Content-Security-Policy" in text
        assert not re.search(r'"(?:model|pipeline)":"/', text) and str(ROOT) not in text
