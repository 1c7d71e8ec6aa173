"""Pages are short, say first what one can do with them, and lead to places that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from page_blocks import DOCS, ROOT, pages

from benchmarks.write_api import PAGES as API_PAGES
from benchmarks.write_site import WIDE, site_page, write_site

PAGES = pages()
README_WORDS, PAGE_WORDS = 900, 1200
# Between these marks are tables that commands write: they are looked up, and not read through.
_WRITTEN = re.compile(
    r"<!-- (?P<name>truth [\w-]+|stable-diffusion|flux|[\w' ]*conditions|faithfulness measured)"
    r": begin -->.*?<!-- (?P=name): end -->"
    r"|<!-- table: \w+ -->.*?<!-- end of the table -->",
    re.S,
)
# What one can do, in the imperative.
VERBS = (
    *("Ask", "Check", "Choose", "Compare", "Decide", "Find", "Fit", "Generate", "Get", "Keep"),
    *("Look", "Make", "Measure", "Name", "Plan", "Point", "Put", "Read", "Record", "Run", "Save"),
    *("Say", "See", "Teach", "Turn"),
)
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]`]|`[^`]*`|!\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
LINKING = {
    **PAGES,
    "CHANGELOG": ROOT / "CHANGELOG.md",
    "benchmarks": ROOT / "benchmarks" / "README.md",
    "card": ROOT / "diffusers_rdaam" / "demo" / "README.md",
}


def words(text: str) -> int:
    """The words of a page, its code and its written tables included, those of commands not."""
    return len(_WRITTEN.sub("", text).split())


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts and the site make them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def broken(page: Path, text: str | None = None) -> list[str]:
    """The links and pictures of a page that lead nowhere."""
    content = _FENCE.sub("", page.read_text(encoding="utf-8") if text is None else text)
    found = []
    for target in (*_LINK.findall(content), *_PICTURE.findall(content)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        there = place.exists()
        if there and anchor:
            there = anchor in anchors(place.read_text(encoding="utf-8"))
        if not there:
            found.append(target)
    return found


def rows_without_head(text: str) -> list[str]:
    """The first rows of tables that have no head: an empty line has cut them off from theirs."""
    blocks = re.split(r"\n\s*\n", _FENCE.sub("", text))
    tables = [block.splitlines() for block in blocks if re.search(r"^\|", block, re.M)]
    first = [next(i for i, line in enumerate(block) if line.startswith("|")) for block in tables]
    return [
        block[start]
        for block, start in zip(tables, first, strict=True)
        if not re.fullmatch(r"\|[\s:|-]+\|", "".join(block[start + 1 : start + 2]))
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_short(name: str) -> None:
    limit = README_WORDS if name == "README" else PAGE_WORDS
    assert words(PAGES[name].read_text(encoding="utf-8")) <= limit


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README"])
def test_a_page_begins_with_what_one_can_do(name: str) -> None:
    title, first, *_ = PAGES[name].read_text(encoding="utf-8").split("\n\n")
    assert re.fullmatch(r"# .+", title), "a page begins with its one title"
    assert first.split()[0].rstrip(",") in VERBS, first


@pytest.mark.parametrize("name", LINKING)
def test_links_lead_somewhere(name: str) -> None:
    assert not broken(LINKING[name])


@pytest.mark.parametrize("name", LINKING)
def test_tables_have_heads(name: str) -> None:
    """Rows without one are shown as lines of bars."""
    assert not rows_without_head(LINKING[name].read_text(encoding="utf-8"))


def test_a_table_without_a_head_is_seen() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert not rows_without_head(f"text\n\n{table}\ntext\n{table}")
    assert rows_without_head(f"{table}\n| 3 | 4 |\n") == ["| 3 | 4 |"]


def test_links_that_lead_nowhere_are_seen() -> None:
    text = "[a](nowhere.md) [b](words.md#which-word) [c](words.md#no) ![d](images/no.png)"
    page = DOCS / "index.md"
    assert broken(page, text) == ["nowhere.md", "words.md#no", "images/no.png"]
    assert words("two words <!-- flux: begin --> not these <!-- flux: end --> more") == 3


def _navigation() -> list[str]:
    class Loader(yaml.SafeLoader):
        """The engine's settings may have tags of Python."""

    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    found: list[str] = []

    def walk(entry: object) -> None:
        if isinstance(entry, str):
            found.append(entry)
        for part in entry if isinstance(entry, list) else []:
            walk(part)
        for part in entry.values() if isinstance(entry, dict) else []:
            walk(part)

    walk(settings["nav"])
    return found


def test_the_navigation_has_every_page_once() -> None:
    wanted = [f"{name}.md" for name in PAGES if name != "README"]
    wanted += ["tutorials/index.md", *(f"api/{name}.md" for name in API_PAGES)]
    assert sorted(_navigation()) == sorted(wanted)


def test_every_page_is_reached_from_another() -> None:
    """On a code host there is no navigation."""
    reached = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in PAGES.values()
        for target in _LINK.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
        if not re.match(r"\w+:", target)
    }
    alone = [name for name, path in PAGES.items() if path.resolve() not in reached]
    assert set(alone) <= {"README", "index"}


def test_what_the_site_makes_of_links() -> None:
    text = "[card](../diffusers_rdaam/demo/README.md), [one](words.md#a), [try](../examples/x.html)"
    page = site_page(text)
    assert page.startswith("card (`diffusers_rdaam/demo/README.md`), [one](words.md#a), ")
    assert page.endswith('<a href="examples/x.html">try</a>')
    table = "| stock class | ours |\n|---|---|\n| `A` | `B` |\n"
    assert site_page(table) == f'<div class="names" markdown="1">\n\n{table}\n</div>\n'
    assert "(../no.md)" in site_page("```text\n[x](../no.md)\n```\n")
    viewer = "[![A viewer](images/viewer.png)](../examples/flux.html)"
    assert '<iframe class="viewer" src="examples/flux.html" title="A viewer"' in site_page(viewer)


def test_pages_have_a_viewer_in_them() -> None:
    framed = [name for name, page in PAGES.items() if "<iframe" in site_page(page.read_text())]
    assert {"index", "viewer"} <= set(framed)


def test_wide_tables_have_the_room_of_the_list_of_headings(tmp_path: Path) -> None:
    write_site(tmp_path / "site")
    pages_of_site = {page: page.read_text() for page in (tmp_path / "site").rglob("*.md")}
    hidden = [page for page, text in pages_of_site.items() if text.startswith("---\nhide:")]
    assert sorted(hidden) == sorted(tmp_path / "site" / f"{name}.md" for name in WIDE)
    named = [page for page, text in pages_of_site.items() if '<div class="names"' in text]
    assert set(named) <= set(hidden)
