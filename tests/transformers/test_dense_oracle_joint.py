"""The maps of joint-attention pipelines against float64 attention of stock runs."""

from __future__ import annotations

import pytest
from builders_joint import CASES
from dense_checks import check_block, check_class

# diffusers' FluxControlNetModel itself uses what diffusers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")


@pytest.mark.parametrize("name", CASES)
def test_a_block_around_the_stock_class(name):
    check_block(CASES[name]())


@pytest.mark.parametrize("name", CASES)
def test_the_class_of_the_package(name):
    check_class(CASES[name]())
