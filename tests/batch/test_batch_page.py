"""docs/batch.md: its example runs, and its tables have every column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diffusers_rdaam.batch.output_schema import MEANINGS
from diffusers_rdaam.batch.prompt_row import COLUMNS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "batch.md").read_text(), re.S)
    # Two steps of the twenty: it is about the files.
    exec(compile(example.replace("steps=20", "steps=2"), "batch.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 1 row 2: seed is a whole number from 0 to 2**64 - 1; got -1."
    assert [line.split()[0] for line in lines[1:]] == ["00000000", "00000001"]


def test_the_tables_have_every_column():
    tables = (DOCS / "batch.md").read_text().split("## The output")
    first = "".join(re.findall(r"^\| .*? \|", tables[0], re.M))
    second = "".join(re.findall(r"^\| .*? \|", tables[1], re.M))
    assert all(f"`{name}`" in first for name in COLUMNS)
    assert all(f"`{name}`" in second for name in MEANINGS)


@pytest.mark.parametrize("page", ["batch.md", "scale.md"])
def test_pages_are_short(page):
    assert len((DOCS / page).read_text().split()) <= 1200
