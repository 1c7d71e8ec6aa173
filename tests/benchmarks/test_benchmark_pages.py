"""What the benchmarks' page, list and command say of each other."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.guards import ROOT, Guards
from benchmarks.harness import guards_of
from benchmarks.header import _commit, header

PAGE = (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_describes_each_benchmark(name: str) -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | ")]
    assert len(lines) == 1


def test_the_page_describes_no_other() -> None:
    head = PAGE.split("## Not measured")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", head, re.MULTILINE)) == set(BENCHMARKS)


def test_commands_on_the_page_exist() -> None:
    for command in re.findall(r"python -m benchmarks([^`#\n]*)", PAGE):
        names = [word for word in command.split("--")[0].split() if word != "…"]
        assert set(names) <= set(BENCHMARKS), command


def test_no_cell_that_is_not_measured_has_a_number_of_its_own() -> None:
    section = PAGE.split("## Not measured")[1].split("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        _, what, goal, command, _ = row.split("|")
        assert not re.search(r"\d\.\d", what.replace("SD1.5", "")), row
        assert re.match(r" (at most|none|no more than|equal|no further)", goal), row
        assert "`python -m benchmarks " in command


@pytest.mark.parametrize("name", BENCHMARKS)
def test_guards_are_there(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{BENCHMARKS[name].module}")
    for pattern in guards_of(module, "cuda"):
        files = Guards().files([pattern])
        assert files, pattern
        assert all((ROOT / file).is_file() for file in files), pattern


def test_the_list_has_a_sentence_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)
    assert all(len(line.split()) > 4 for line in lines)


def test_the_header_tells_what_there_is() -> None:
    import torch

    facts = header("cpu")
    assert facts["threads"] == "1 of torch"
    assert facts["torch"] == torch.__version__
    assert (facts["gpu"] == "none") == (not torch.cuda.is_available())
    assert re.fullmatch(r"[0-9a-f]{7,}( with changes)?|unknown", _commit())
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["date"])


def test_make_bench_writes_both_files_where_git_does_not_look() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nbench:")[1].split("\n\n")[0]
    for name, ending in (("--json", "json"), ("--markdown", "md")):
        assert f"{name} out/bench/results.{ending}" in recipe
    assert "out/" in Path(ROOT / ".gitignore").read_text().splitlines()
