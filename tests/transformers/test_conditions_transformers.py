"""Every condition with every transformer: the stock image, true maps, the table that says so."""

from __future__ import annotations

import re
from typing import Any

import pytest
from transformer_conditions import CONDITIONS, FAMILIES, Condition
from transformer_matrix import documented, rows, text_of
from transformer_outcome import outcome


def cells() -> list[Any]:
    parameters = []
    for condition in CONDITIONS:
        for family in filter(condition.tried, FAMILIES):
            marks = [pytest.mark.slow] * (family not in condition.often)
            name = f"{family}: {condition.id}"
            parameters.append(pytest.param(condition, family, id=name, marks=marks))
    return parameters


@pytest.mark.parametrize(("condition", "family"), cells())
def test_condition(condition: Condition, family: str):
    # Of a row with several variants, each is in the cell; one that all share stands there once.
    found = outcome(condition, family)
    cell = documented()[condition.name, family]
    assert found == cell or f"{condition.variant}: {found}" in re.split("; ", cell)


def test_the_table_has_every_row_and_column():
    assert list(documented()) == [(name, family) for name in rows() for family in FAMILIES]


def test_what_is_not_tried_is_not_said_to_work():
    for (name, family), text in documented().items():
        untried = [one for one in rows()[name] if not one.tried(family)]
        if len(untried) == len(rows()[name]):
            assert text == text_of({}, untried)
