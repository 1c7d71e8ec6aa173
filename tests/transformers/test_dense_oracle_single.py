"""Maps of single-stream, cross-attention and video pipelines against dense float64 attention."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from builders_single import CASES
from dense_checks import StockRun, check_block, check_maps, images_of
from dense_oracle import Case

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.pipelines.classes import recording_class

pytestmark = [
    # Mochi's transformer asks for float32 autocast, which the CPU does not have.
    pytest.mark.filterwarnings("ignore:In CPU autocast"),
    # A scheduler hands a list of tensors to numpy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    # PRX's pipeline still has a class of diffusers that diffusers replaces.
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),
]


@pytest.mark.parametrize("name", CASES)
def test_a_block_around_the_stock_class(name):
    check_block(CASES[name]())


@pytest.mark.parametrize("name", CASES)
def test_the_class_of_the_package(name):
    _check_class(CASES[name]())


def _check_class(case: Case) -> None:
    stock = StockRun(case)
    pipe = stock.pipe
    ours = recording_class(type(pipe).__name__)(**_parts_of(pipe))
    _copy_attributes(pipe, ours)
    ours.set_attn_processor(RDAAMProcessor())
    ours.set_progress_bar_config(disable=True)
    output = case.run(ours)
    assert (images_of(output) == stock.images).all()
    check_maps(stock, output.attributions)


def _parts_of(pipe: Any) -> dict[str, Any]:
    """The arguments of a pipeline's constructor, read from the pipeline."""
    parameters = inspect.signature(type(pipe).__init__).parameters
    options = {name: pipe.config[name] for name in parameters if name in pipe.config}
    parts = {name: getattr(pipe, name) for name in parameters if name in pipe.components}
    if "pag_applied_layers" in parameters:
        options["pag_applied_layers"] = pipe.pag_applied_layers
    return options | parts


def _copy_attributes(pipe: Any, ours: Any) -> None:
    """What a case has set on a pipeline after it was made."""
    if hasattr(pipe, "resolutions"):
        ours.resolutions = pipe.resolutions
