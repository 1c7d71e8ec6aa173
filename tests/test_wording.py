"""Messages, docstrings and pages use the field's terms and plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusers_rdaam

PACKAGE = Path(diffusers_rdaam.__file__).parent
ROOT = PACKAGE.parent
# "It is no word" is not plain English; "there is no word" and "it is no longer" are.
_IS_NO = (
    r"(?<!there )(?<!There )\b(?:is|are|was|were) no\b"
    r"(?! (?:longer|more|less|fewer|better|worse|larger|smaller)\b)"
)
_OWN = r"(?<!its )(?<!Its )(?<!their )(?<!your[ -])(?<!our )(?<!my )(?<!'s )(?<!s' )\bown\b"
# Terms of a private language, and what to write.
INSTEAD = {
    _IS_NO: "is not a …, has no …",
    r"\btold\b(?! apart)": "reported, given, named",
    r"\bpric(?:e|es|ed|ing)\b": "memory cost, time",
    r"(?<!tell them )(?<!told )\bapart\b": "separately, per head",
    r"\bbeside\b": "next to, in addition to, alongside",
    _OWN: "self-attention, separate; or with a possessive before it",
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Pages that quote earlier names.
QUOTING = ("CHANGELOG.md", "migrating.md")


def _found(text: str, where: str, first: int = 1) -> list[str]:
    flat = re.sub(r"\s", " ", text)
    return [
        f"{where}:{first + text.count(chr(10), 0, match.start())}: {match.group()!r} in "
        f"{flat[max(0, match.start() - 30) :][:90]!r}; rather: {instead}"
        for pattern, instead in INSTEAD.items()
        for match in re.finditer(pattern, flat)
    ]


def _strings(path: Path) -> Iterator[tuple[int, str]]:
    """Every literal of a module, with its line: docstrings, messages, parts of f-strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir()))
def test_strings_of_the_package(room):
    path = PACKAGE / room
    modules = sorted(path.rglob("*.py")) if path.is_dir() else [path] * (path.suffix == ".py")
    found = [
        one
        for module in modules
        for line, text in _strings(module)
        for one in _found(re.sub(r" {2,}", " ", text), str(module.relative_to(ROOT)), line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    text = page.read_text(encoding="utf-8")
    if page.name in QUOTING:
        text = re.sub(r"`[^`\n]+`", "…", text)
    found = _found(text, page.name)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("'cats' is no word of the prompt", 1),
        ("'cats' is\nno word of the prompt", 1),
        ("it is no longer there", 0),
        ("the price is told, kept apart, beside own maps", 5),
        ("own maps", 1),
        ("the pipeline's own loop", 0),
        ("has no word, and there is no other", 0),
        ("nobody can tell them apart", 0),
    ],
)
def test_the_list_finds_what_it_should(text, count):
    assert len(_found(text, "here")) == count
