"""The documentation site in a real browser: no table is wider than the page that it stands on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.write_site import write_site

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
WIDTH = 1280
# Columns, hidden pixels and the first words of each table that scrolls sideways.
SCROLLING = """() => [...document.querySelectorAll(".md-typeset table")]
    .filter((table) => table.scrollWidth > table.clientWidth)
    .map((table) => [
        table.rows[0].cells.length, table.scrollWidth - table.clientWidth,
        table.innerText.slice(0, 60),
    ])"""
_MANY_COLUMNS = re.compile(r"^\|(?:[^|\n]*\|){5,}$", re.M)


def _settings(*, whole: bool) -> str:
    """The site's settings, for pages in another folder; of a few pages without API and list."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    text = re.sub(r"^docs_dir: .*$", "docs_dir: pages", text, flags=re.M)
    text = re.sub(r"^site_dir: .*$", "site_dir: html", text, flags=re.M)
    if whole:
        return text.replace("paths: [.]", f"paths: ['{ROOT}']").replace(
            "[benchmarks/", f"[{ROOT}/benchmarks/"
        )
    text = re.sub(r"^  - mkdocstrings:\n(?: {4,}.*\n)+", "", text, flags=re.M)
    return text[: text.index("\nnav:")]


def build_site(folder: Path, *, whole: bool) -> list[Path]:
    """Write the site's pages with a table, or those of them with many columns, and build them."""
    write_site(folder / "pages")
    pages = sorted((folder / "pages").rglob("*.md"))
    if not whole:
        docs = [page for page in pages if page.parent == folder / "pages"]
        wide = {page for page in docs if _MANY_COLUMNS.search(page.read_text(encoding="utf-8"))}
        for page in {*pages} - wide:
            page.unlink()
    (folder / "mkdocs.yml").write_text(_settings(whole=whole), encoding="utf-8")
    command = [Path(sys.executable).parent / "zensical", "build", "-f", folder / "mkdocs.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted((folder / "html").rglob("*.html"))
    return [page for page in found if "<table" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "whole", [pytest.param(False, id="wide"), pytest.param(True, id="all", marks=pytest.mark.slow)]
)
def test_no_table_of_the_site_scrolls(tmp_path: Path, browser: Any, whole: bool) -> None:
    """At a width of 1280 pixels. Without the pages' scripts, which build an index of the search."""
    built = build_site(tmp_path, whole=whole)
    assert len(built) >= (40 if whole else 6), built
    window: Any = {"width": WIDTH, "height": 900}
    context = browser.new_context(viewport=window, java_script_enabled=False)
    # Viewers in a page draw themselves for seconds.
    context.route("**/examples/*", lambda route: route.abort())
    page = context.new_page()
    found = {}
    for path in built:
        page.goto(path.as_uri(), wait_until="domcontentloaded", timeout=120_000)
        assert page.locator(".md-typeset table").count()
        found[path.stem] = page.evaluate(SCROLLING)
    context.close()
    assert not any(found.values()), {name: tables for name, tables in found.items() if tables}
