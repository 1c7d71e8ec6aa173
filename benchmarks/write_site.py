"""Write the pages that the documentation site is built from, to ``out/site/pages``.

``python -m benchmarks.write_site``, which ``make docs`` runs first. The pages of ``docs/`` are also
read on a code host, where links lead to any file of the repository; a site has its pages alone:

* the API pages are made of the public names (``benchmarks.write_api``);
* viewers of ``examples/`` come along, and a picture that links to one becomes the viewer itself;
* a link to any other file of the repository becomes that file's name.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import shutil
from pathlib import Path

from benchmarks.write_api import PAGES, page_text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUT = ROOT / "out" / "site" / "pages"
_FRAME = re.compile(r"^\[!\[([^\]]*)\]\([^)]*\)\]\((\.\./examples/[^)]*\.html)\)$", re.M)
# The text of a link may hold an image, or code with brackets.
_LINK = re.compile(r"\[((?:[^\[\]`]|`[^`]*`|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)


def site_page(text: str, folder: str = "") -> str:
    """A page of ``docs/`` as the site shows it.

    Args:
        text: the page, in Markdown.
        folder: the page's folder below ``docs/``.

    Returns:
        The text, in which links lead to what is on the site.
    """
    text = _FRAME.sub(_frame, text)
    parts = _FENCE.split(text)
    parts[::2] = [_LINK.sub(lambda match: _link(match, folder), part) for part in parts[::2]]
    return "".join(parts)


def _frame(match: re.Match[str]) -> str:
    title, target = match.groups()
    address = target.removeprefix("../")
    return (
        f'<iframe class="viewer" src="{address}" title="{title}" loading="lazy" '
        f'sandbox="allow-scripts allow-downloads"></iframe>\n\n'
        f'<a href="{address}">Open the viewer alone</a>'
    )


def _link(match: re.Match[str], folder: str) -> str:
    text, target = match.groups()
    path = target.split("#")[0]
    if ":" in target or not path:
        return match.group()
    place = posixpath.normpath(posixpath.join("docs", folder, path))
    if place.startswith("docs/"):
        return match.group()
    if place.startswith("examples/") and place.endswith(".html"):
        return f'<a href="{place}">{text}</a>'
    return f"{text} (`{place}`)" if place not in text else text


def write_site(out: Path = OUT) -> int:
    """Write all pages into a folder, which is emptied first; returns how many there are."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(DOCS, out)
    pages = sorted(out.rglob("*.md"))
    for page in pages:
        folder = page.parent.relative_to(out).as_posix()
        page.write_text(site_page(page.read_text(encoding="utf-8"), folder), encoding="utf-8")
    shutil.copytree(ROOT / "examples", out / "examples", ignore=shutil.ignore_patterns("*.py"))
    api = out / "api"
    api.mkdir()
    for name in PAGES:
        (api / f"{name}.md").write_text(page_text(name), encoding="utf-8")
    return len(pages) + len(PAGES)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{write_site()} pages in {OUT.relative_to(ROOT)}")
