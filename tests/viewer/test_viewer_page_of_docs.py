"""The examples of docs/viewer.md run, and its page is as short as pages are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "viewer.md"


def test_examples_run(make_attribution, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 3 and len(text.split()) <= 1200
    names = {"attribution": make_attribution("a red cat")}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    written = sorted(file.name for file in tmp_path.iterdir())
    assert written == ["cat.html", "small.html", "webp.html"]
    assert names["page"] == Path("cat.html") and names["text"].startswith("<!DOCTYPE html>")
    assert names["both"].count("two seeds") == 1


def test_the_pages_to_try_are_there() -> None:
    """Each is small, holds what this version writes, and no path of the machine that wrote it."""
    links = re.findall(r"\((\.\./examples/[^)]*\.html)\)", PAGE.read_text(encoding="utf-8"))
    pages = [(PAGE.parent / link).resolve() for link in links]
    assert len(pages) == 3 and all(page.is_file() for page in pages)
    assert set(pages) == set((ROOT / "examples").glob("*.html"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(text) < 1_000_000
        assert 'id="rdaam-data"' in text and "Content-Security-Policy" in text
        assert not re.search(r'"(?:model|pipeline)":"/', text) and str(ROOT) not in text
