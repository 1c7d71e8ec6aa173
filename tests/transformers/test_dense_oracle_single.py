"""Maps of single-stream, cross-attention and video pipelines against dense float64 attention."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from builders_single import CASES
from dense_checks import StockRun, check_grid, check_maps, images_of, in_turns

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.pipelines.classes import recording_class

pytestmark = [
    # Mochi's transformer asks for float32 autocast, which the CPU does not have.
    pytest.mark.filterwarnings("ignore:In CPU autocast"),
    # A scheduler hands a list of tensors to numpy.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    # PRX's pipeline still has a class of diffusers that diffusers replaces.
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),
]


# The mark of a picture in OmniGen's prompt is two words that no token has.
MARKED = pytest.mark.filterwarnings("ignore:The prompt is longer than the text encoder")
# Sizes and templates of which a toy has shorter ones.
SET_AFTERWARDS = {
    "default_return_index",
    "default_sample_size",
    "prompt_template_encode_start_idx",
    "resolutions",
    "system_message",
    "text_encoder_image_size",
    "text_encoder_out_layers",
    "tokenizer_2_max_length",
    "tokenizer_max_length",
    "vision_num_semantic_tokens",
}
MARKS = {"OmniGenPipeline picture": [MARKED]}


@pytest.mark.parametrize("name", in_turns(CASES, 0, **MARKS))
def test_a_block_around_the_stock_class(name):
    case = CASES[name]()
    stock, pipe = StockRun(case), case.make()
    with record_attention(pipe) as recording:
        output = case.run(pipe)
    assert np.array_equal(images_of(output), stock.images)
    _check_maps(stock, recording.attributions)


@pytest.mark.parametrize("name", in_turns(CASES, 1, **MARKS))
def test_the_class_of_the_package(name):
    case = CASES[name]()
    stock, pipe = StockRun(case), case.make()
    ours = recording_class(type(pipe).__name__)(**_parts_of(pipe))
    _copy_attributes(pipe, ours)
    ours.set_attn_processor(RDAAMProcessor(columns="all"))
    output = case.run(ours)
    assert np.array_equal(images_of(output), stock.images)
    _check_maps(stock, output.attributions)


def _check_maps(stock: StockRun, attributions: Any) -> None:
    if stock.case.encoders:
        check_maps(stock, attributions)
        return
    for image, attribution in enumerate(attributions):
        assert {grid.stream for grid in attribution.grids} in ({""}, set(stock.case.sites))
        for grid in attribution.grids:
            wanted = stock.case.map_of(stock.seen, image, stream=grid.stream or None)
            check_grid(grid.maps.double(), wanted, attribution.prompt.tokens)


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
    for name in SET_AFTERWARDS & vars(pipe).keys():
        setattr(ours, name, getattr(pipe, name))
