"""Messages, docstrings and pages say things in the field's terms and in plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusers_rdaam

PACKAGE = Path(diffusers_rdaam.__file__).parent
ROOT = PACKAGE.parent
# A private language's terms, and what stands in their place.
INSTEAD = {
    r"\b(?:is|are|was|were) no\b(?! (?:longer|more|less|fewer|better|worse|larger|smaller)\b)": (
        "is not a …, has no …"
    ),
    r"\btold\b": "reported, given, named",
    r"\bpric(?:e|es|ed|ing)\b": "memory cost, time",
    r"\bapart\b": "separately, separate, per head",
    r"\bbeside\b": "next to, in addition to, alongside",
    r"(?<!its )(?<!their )(?<!your )(?<!our )(?<!'s )(?<!my )(?<!s' )\bown\b": (
        "self-attention, separate, or with a possessive before it"
    ),
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every literal of a module, with its line: docstrings, messages, parts of f-strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def _found(texts: Iterator[tuple[int, str]], where: str) -> list[str]:
    return [
        f"{where}:{line}: {match.group()!r} in {text[max(0, match.start() - 30) :][:90]!r} "
        f"(rather: {instead})"
        for line, text in texts
        for pattern, instead in INSTEAD.items()
        for match in re.finditer(pattern, text)
    ]


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir()))
def test_strings_of_the_package(room):
    path = PACKAGE / room
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
    found = [one for m in modules for one in _found(_strings(m), str(m.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    found = _found(lines, page.name)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("'cats' is no word of the prompt", 1),
        ("it is no longer there", 0),
        ("the price is told apart, beside its own", 4),
        ("own maps", 1),
        ("the pipeline's own loop", 0),
        ("has no word", 0),
    ],
)
def test_the_list_finds_what_it_should(text, count):
    assert len(_found(iter([(1, text)]), "here")) == count
