"""Every condition with every pipeline: the stock image, the true maps, the table that says so."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from cell import WORKS, outcome
from conditions import COLUMNS, CONDITIONS, Condition
from matrix import NOT_TRIED, documented, rows


def cells() -> list[Any]:
    parameters = []
    variants: Counter[str] = Counter()
    for number, condition in enumerate(CONDITIONS):
        marks = []
        if not condition.possible:
            marks.append(pytest.mark.skip(reason=f"needs {condition.needs}"))
        elif condition.pending is not None:
            marks.append(pytest.mark.xfail(strict=True, reason=condition.pending))
        tested = list(filter(condition.tested, COLUMNS))
        # One pipeline is tested every time, another with each condition, and of variants, such as
        # schedulers, each fourth; compilation, which takes long, in test_compile.
        rare = condition.compiled or variants[condition.name] % 4 > 0
        variants[condition.name] += 1
        often = [tested[number % len(tested)]] if tested and not rare else []
        for case in tested:
            slow = [pytest.mark.slow] * (case not in often)
            name = f"{case}: {condition.id}"
            parameters.append(pytest.param(condition, case, id=name, marks=[*marks, *slow]))
    return parameters


@pytest.mark.parametrize(("condition", "case"), cells())
def test_condition(condition: Condition, case: str):
    found = outcome(condition, case)
    assert found == WORKS
    assert documented()[condition.name, case] in (found, f"{NOT_TRIED}: needs {condition.needs}")


def test_the_table_has_every_row_and_column():
    assert list(documented()) == [(name, case) for name in rows() for case in COLUMNS]


def test_what_is_not_tested_is_not_said_to_work():
    for (name, case), text in documented().items():
        tested = any(condition.tested(case) for condition in rows()[name])
        assert tested != (text == NOT_TRIED)
