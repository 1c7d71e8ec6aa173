"""The tables of docs/batch.md have every column."""

from __future__ import annotations

import re
from pathlib import Path

from diffusers_rdaam.batch.output_schema import MEANINGS
from diffusers_rdaam.batch.prompt_row import COLUMNS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tables_have_every_column():
    tables = (DOCS / "batch.md").read_text().split("## The output")
    first = "".join(re.findall(r"^\| .*? \|", tables[0], re.M))
    second = "".join(re.findall(r"^\| .*? \|", tables[1], re.M))
    assert all(f"`{name}`" in first for name in COLUMNS)
    assert all(f"`{name}`" in second for name in MEANINGS)
