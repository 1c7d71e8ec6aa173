"""Commands on the pages: each line of ``rdaam`` is one that the command takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from page_blocks import ROOT, blocks, pages

from benchmarks.__main__ import BENCHMARKS
from diffusers_rdaam.cli import app

SHELL = ("bash", "shell", "sh", "console")
CLICK = typer.main.get_command(app)


def _commands(page: Path) -> list[list[str]]:
    lines = [
        line
        for block in blocks(page)
        if block.language in SHELL
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = [
    pytest.param(words, id=f"{name}: {' '.join(words)[:60]}")
    for name, page in pages().items()
    for words in _commands(page)
]


def check(words: list[str]) -> None:
    """A command that the programs of this package do not take is an error.

    Raises:
        click.UsageError: an option, a value or a command of rdaam that is not.
        AssertionError: a benchmark, target or module that is not.
    """
    # A place to be filled in with more options.
    words = [word for word in words if word != "…"]
    if words[0] == "rdaam" and len(words) > 1:
        command = CLICK.commands.get(words[1])
        assert command is not None, f"rdaam has no command {words[1]}"
        with command.make_context(words[1], words[2:], resilient_parsing=False):
            pass
    elif words[:3] == ["python", "-m", "benchmarks"]:
        names = [word for word in words[3:] if not word.startswith("-")]
        assert not names or names[0] in BENCHMARKS or words[3].startswith("-"), names
    elif words[0] == "make":
        targets = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{words[1]}:" in targets, f"make has no target {words[1]}"
    else:
        assert words[0] in ("pip", "rdaam", "sha256sum"), f"nobody checks {words[0]}"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_a_page_exists(words: list[str]) -> None:
    check(words)


def test_there_are_commands_of_every_kind() -> None:
    assert len(COMMANDS) >= 36
    first = {parameter.values[0][0] for parameter in COMMANDS}
    assert {"rdaam", "python", "make", "pip"} <= first


@pytest.mark.parametrize(
    "line", ["rdaam generate 'a cat' --bx 1,2,3,4", "rdaam gen 'a cat'", "make sense"]
)
def test_a_command_that_is_wrong_is_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"No such option|has no (?:command|target)"):
        check(shlex.split(line))


def test_every_block_says_its_language() -> None:
    """A block without one would be run and checked by nobody."""
    known = {*SHELL, "python", "text"}
    found = {
        f"{name}:{block.line}: {block.language!r}"
        for name, page in pages().items()
        for block in blocks(page)
        if block.language not in known
    }
    assert not found
