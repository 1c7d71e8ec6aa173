"""Messages, docstrings and pages use the field's terms and plain English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomllib

import diffusers_rdaam
from diffusers_rdaam import errors

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
_FOLDERS = (".", ".github", "benchmarks", "benchmarks/results_gpu", "docs", "examples")
PAGES = sorted(
    page for folder in (*_FOLDERS, "diffusers_rdaam/demo") for page in (ROOT / folder).glob("*.md")
)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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


# Parts of a longer text: the rows of a batch, and reasons in warnings.
_FRAGMENTS = ("batch/prompt_row.py", "pipelines/attribution_prompt.py", "pipelines/callbacks.py")
_BEGINS = re.compile(r"[A-Z{'\"-]|[\w.]+(?:=|\(|_)|viewer\.|compare|spaCy")
_ENDS = re.compile(
    r"[.?…})]$|: pip install \"diffusers_rdaam\[\w+\]\"$|: python -m spacy download en_core_web_sm$"
)


def _ends_of(node: ast.expr) -> tuple[str, str] | None:
    """The first and the last literal of a text; ``{`` and ``}`` for a value there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, node.value
    if isinstance(node, ast.JoinedStr):
        parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
        return str(parts[0]), str(parts[-1])
    if isinstance(node, ast.BinOp):
        first, last = _ends_of(node.left), _ends_of(node.right)
        return None if first is None or last is None else (first[0], last[1])
    return None


def _errors(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, beginning and end of the text of each error of the package that a module raises."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func).split(".")[-1]
        ends = _ends_of(node.args[0])
        if name in ERRORS and ends is not None:
            yield node.lineno, *ends


ERRORS = {name for name in dir(errors) if name.endswith("Error")}


def _fault(begin: str, end: str) -> str:
    """What is wrong with a text that begins and ends so; empty for a sentence."""
    if _BEGINS.match(begin) and _ENDS.search(end):
        return ""
    return f"{begin[:40]!r} … {end[-40:]!r} is not a sentence"


def test_errors_are_sentences_or_end_in_a_command():
    count, found = 0, []
    for module in sorted(PACKAGE.rglob("*.py")):
        if module.as_posix().endswith(_FRAGMENTS):
            continue
        for line, begin, end in _errors(module):
            count += 1
            if fault := _fault(begin, end):
                found.append(f"{module.relative_to(ROOT)}:{line}: {fault}")
    assert count > 700
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("raise InputError(f'{x!r} is wrong. Give y.')", 0),
        ("raise InputError('steps= is wrong; got 1.')", 0),
        ("raise InputError('it is wrong')", 1),
        ("raise InputError('This is wrong')", 1),
        ("raise ImportError('this is not ours')", 0),
        ("raise AppExtraError('It needs x: pip install \"diffusers_rdaam[app]\"')", 0),
    ],
)
def test_what_is_not_a_sentence_is_found(code, count, tmp_path):
    module = tmp_path / "module.py"
    module.write_text(code)
    assert sum(bool(_fault(begin, end)) for _, begin, end in _errors(module)) == count


def test_an_extra_is_installed_in_one_way():
    """With the quotation marks that every shell takes, by a name that pyproject.toml has."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = metadata["project"]["optional-dependencies"]
    seen = 0
    for path in [*PAGES, *sorted(PACKAGE.rglob("*.py"))]:
        text = re.sub(r'"\s*\n\s*f?[\'"]', "", path.read_text(encoding="utf-8"))
        for match in re.finditer(r"pip install\s+(\S*\[[\w,]+\]\S*)", text):
            form = re.match(r'"diffusers_rdaam\[([\w,]+)\]"', match.group(1))
            assert form, f"{path}: {match.group()}"
            assert set(form.group(1).split(",")) <= set(extras), f"{path}: {match.group()}"
            seen += 1
    assert seen > 15
