"""The examples of docs/aggregations.md run, and its table is the table of aggregations."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch

from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.self_grid import SelfGrid

PAGE = Path(__file__).parents[2] / "docs" / "aggregations.md"


def test_examples_run(make_kept, capsys, types_unchecked):
    attribution, _ = make_kept()
    itself = SelfGrid(torch.eye(96) * 2 + 1, 98, (8, 12))
    names = {"attribution": dataclasses.replace(attribution, self_grids=(itself,))}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert "formula: " in capsys.readouterr().out


def test_the_table_has_every_aggregation():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    names = list(aggregations())
    # A second table has what some of them were measured to bring.
    assert rows[: len(names)] == names and set(rows[len(names) :]) <= set(names)
