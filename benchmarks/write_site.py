"""Write the pages that the documentation site is built from, to ``out/site/pages``.

``python -m benchmarks.write_site``, which ``make docs`` runs first. The pages of ``docs/`` are also
read on a code host, where links lead to any file of the repository; a site has its pages alone:

* the API pages are made of the public names (``benchmarks.write_api``);
* viewers of ``examples/`` come along, and a picture that links to one becomes the viewer itself;
* notebooks of ``examples/`` become the tutorials, with their outputs as they are kept;
* a link to any other file of the repository becomes that file's name;
* pages with wide tables have the room of the list of their headings for these.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
from pathlib import Path

from benchmarks.notebook_page import notebook_page, title_of
from benchmarks.write_api import PAGES, page_text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
OUT = ROOT / "out" / "site" / "pages"
_FRAME = re.compile(r"^\[!\[([^\]]*)\]\([^)]*\)\]\((\.\./examples/[^)]*\.html)\)$", re.M)
_NAMES = re.compile(r"^\| (?:(?:stock )?class|condition) \|.*\n(?:\|.*\n)+", re.M)
# The first line of a table of conditions, and where a name in it may break.
_CONDITIONS = re.compile(r"^\| condition \|.*$", re.M)
_CODE = re.compile(r"`([^`]+)`")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# The text of a link may hold an image, or code with brackets. A picture is not a link: it stays.
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]`]|`[^`]*`|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
# Pages whose tables need the room of the list of headings at the page's side.
WIDE = (
    *("api/pipeline_classes", "compatibility", "compatibility_transformers", "conditions"),
    *("conditions_transformers", "evaluation_measured", "evidence", "memory_and_speed"),
)
_WITHOUT_HEADINGS = "---\nhide:\n  - toc\n---\n\n"


def site_page(text: str, folder: str = "docs") -> str:
    """A page as the site shows it.

    Args:
        text: the page, in Markdown.
        folder: where links of the page begin, in the repository: ``docs``, or ``examples`` for the
            tutorials.

    Returns:
        The text, in which links lead to what is on the site.
    """
    text = _FRAME.sub(_frame, text)
    text = _CONDITIONS.sub(_breakable, text)
    text = _NAMES.sub(r'<div class="names" markdown="1">\n\n\g<0>\n</div>\n', text)
    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(lambda match: _link(match, folder), part) for part in parts[::2]]
    text = "".join(parts)
    # Pictures of a size of their own are HTML.
    return text if folder.startswith("docs") else text.replace('src="../docs/', 'src="../')


def _frame(match: re.Match[str]) -> str:
    title, target = match.groups()
    address = target.removeprefix("../")
    return (
        f'<iframe class="viewer" src="{address}" title="{title}" loading="lazy" '
        f'sandbox="allow-scripts allow-downloads"></iframe>\n\n'
        f'<a href="{address}">Open the viewer alone</a>'
    )


def _breakable(match: re.Match[str]) -> str:
    """The head of a table whose names of classes may break between their words."""
    return _CODE.sub(
        lambda code: f"<code>{_HUMP.sub('<wbr>', code.group(1))}</code>", match.group()
    )


def _link(match: re.Match[str], folder: str) -> str:
    text, target = match.groups()
    path = target.split("#")[0]
    if ":" in target or not path:
        return match.group()
    place = posixpath.normpath(posixpath.join(folder, path))
    # Pages of docs/ are at the top of the site, tutorials one folder below.
    top = "" if folder.startswith("docs") else "../"
    anchor = target.removeprefix(path)
    if place.startswith("docs/"):
        inside = posixpath.relpath(place, folder) if not top else f"{top}{place[5:]}"
        return f"[{text}]({inside}{anchor})"
    if place.startswith("examples/") and place.endswith(".ipynb"):
        return f"[{text}]({top}tutorials/{Path(place).stem}.md{anchor})"
    if place.startswith("examples/") and place.endswith(".html"):
        return f'<a href="{top}{place}">{text}</a>'
    return f"{text} (`{place}`)" if place not in text else text


def write_site(out: Path = OUT) -> int:
    """Write all pages into a folder, which is emptied first; returns how many there are."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(DOCS, out)
    pages = sorted(out.rglob("*.md"))
    for page in pages:
        folder = posixpath.join("docs", page.parent.relative_to(out).as_posix())
        text = site_page(page.read_text(encoding="utf-8"), posixpath.normpath(folder))
        page.write_text(text, encoding="utf-8")
    (out / "examples").mkdir()
    for viewer in EXAMPLES.glob("*.html"):
        shutil.copy(viewer, out / "examples")
    tutorials = _write_tutorials(out / "tutorials")
    api = out / "api"
    api.mkdir()
    for name in PAGES:
        (api / f"{name}.md").write_text(site_page(page_text(name), "docs/api"), encoding="utf-8")
    for page in (out / f"{name}.md" for name in WIDE):
        page.write_text(_WITHOUT_HEADINGS + page.read_text(encoding="utf-8"), encoding="utf-8")
    return len(pages) + tutorials + len(PAGES)


def _write_tutorials(folder: Path) -> int:
    """The notebooks, and a page that leads to them; returns how many pages that are."""
    folder.mkdir()
    lines = [
        "# Tutorials",
        "",
        "Read a question through from the first line to the answer: each is a notebook of the",
        "repository's folder `examples`, with its outputs, which runs on the embedded models.",
        "",
    ]
    notebooks = sorted(EXAMPLES.glob("*.ipynb"))
    for notebook in notebooks:
        title, first = title_of(notebook)
        text = site_page(notebook_page(notebook, folder), "examples")
        (folder / f"{notebook.stem}.md").write_text(text, encoding="utf-8")
        head = f"## [{title}]({notebook.stem}.md)"
        lines += [head, "", site_page(first, "examples"), ""]
    lines += [
        "## Viewers",
        "",
        "Pages to try: "
        + ", ".join(
            f'<a href="../examples/{viewer.name}">{viewer.stem}</a>'
            for viewer in sorted(EXAMPLES.glob("*.html"))
        ),
    ]
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(notebooks) + 1


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{write_site()} pages in {OUT.relative_to(ROOT)}")
