"""The table of docs/aggregations.md is the table of aggregations."""

from __future__ import annotations

import re
from pathlib import Path

from diffusers_rdaam.attribution.aggregations.table import aggregations

PAGE = Path(__file__).parents[2] / "docs" / "aggregations.md"
MEASURED = PAGE.with_name("aggregations_measured.md")


def test_the_table_has_every_aggregation():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert rows == list(aggregations())
    measured = re.findall(r"^\| `(\w+)`", MEASURED.read_text(encoding="utf-8"), re.M)
    assert len(measured) >= 10 and set(measured) <= set(rows)
