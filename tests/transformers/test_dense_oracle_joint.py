"""The maps of joint-attention pipelines against float64 attention of stock runs."""

from __future__ import annotations

import pytest
from builders_joint import CASES
from dense_checks import check_block, check_class, in_turns

from diffusers_rdaam import UnsupportedPipelineError, record_attention

# diffusers' FluxControlNetModel itself uses what diffusers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")
# Its kernel calls are as the case says, but not in its processors' own code.
REFUSED = [name for name in CASES if name.startswith("Flux2KleinKVPipeline")]
RECORDED = [name for name in CASES if name not in REFUSED]


@pytest.mark.parametrize("name", in_turns(RECORDED, 0))
def test_a_block_around_the_stock_class(name):
    check_block(CASES[name]())


@pytest.mark.parametrize("name", in_turns(RECORDED, 1))
def test_the_class_of_the_package(name):
    check_class(CASES[name]())


@pytest.mark.parametrize("name", REFUSED)
def test_a_class_that_is_not_recorded_says_why(name):
    pipe = CASES[name]().make()
    with (
        pytest.raises(UnsupportedPipelineError, match="keeps the keys of its references"),
        record_attention(pipe),
    ):
        pass
