"""Where the joint-attention pipelines have image and text, seen in their stock runs."""

from __future__ import annotations

import pytest
from builders_joint import CASES
from case_checks import check_conditional_rows, check_run, check_text_keys, check_token_columns

# diffusers' FluxControlNetModel itself uses what diffusers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")
GUIDED = [name for name, make in CASES.items() if make().negative is not None]


@pytest.mark.parametrize("name", CASES)
def test_the_stock_run_has_maps_on_the_grid(name):
    check_run(CASES[name]())


@pytest.mark.parametrize("name", CASES)
def test_a_text_column_is_one_key(name):
    check_text_keys(CASES[name]())


@pytest.mark.parametrize("name", CASES)
def test_a_token_is_one_column(name):
    check_token_columns(CASES[name]())


@pytest.mark.parametrize("name", GUIDED)
def test_another_negative_prompt_changes_the_other_rows_only(name):
    check_conditional_rows(CASES[name]())
