"""What the mixin keeps of the stock class: signature, loading, saving, subclassing."""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForText2Image,
    DiffusionPipeline,
    StableDiffusionPipeline,
)
from diffusers.utils import BaseOutput

from diffusers_rdaam import RDAAMPipelineMixin, StableDiffusionRDAAMPipeline


class Mine(RDAAMPipelineMixin, StableDiffusionPipeline):
    """As the README shows it."""


class Painted(StableDiffusionRDAAMPipeline):
    """A ``__call__`` of its own, before ours."""

    def __call__(self, prompt: str, **kwargs: Any) -> Any:
        return super().__call__(f"a painting of {prompt}", **kwargs)


def pixels(output: Any) -> np.ndarray:
    return np.asarray(output.images[0])


@pytest.mark.parametrize("cls", [StableDiffusionRDAAMPipeline, Mine])
def test_signatures_are_stock(cls):
    for name in ("__call__", "__init__", "from_pretrained", "save_pretrained"):
        ours = inspect.signature(getattr(cls, name))
        assert ours == inspect.signature(getattr(StableDiffusionPipeline, name))
    assert cls.__call__.__doc__ == StableDiffusionPipeline.__call__.__doc__
    assert cls.__call__ is not StableDiffusionPipeline.__call__


def test_the_stock_class_is_left_alone(stock, generate):
    assert StableDiffusionPipeline.__call__.__module__.startswith("diffusers.")
    output = generate(stock)
    assert not hasattr(output, "attributions") and not hasattr(stock, "attribution")


def test_a_class_of_ones_own(make, generate):
    mine = make(Mine)
    output = generate(mine)
    assert output.attribution.words[1].text == "red"
    assert output.attribution.run["pipeline"] == "Mine"


def test_a_subclass_with_a_call_of_its_own(make, generate):
    painted = make(Painted)
    output = generate(painted, "a red cat")
    assert output.attribution.prompt.text == "a painting of a red cat"
    assert painted.attribution is output.attribution
    assert np.array_equal(pixels(output), pixels(generate(make(), "a painting of a red cat")))


class PaintedAtOnce(RDAAMPipelineMixin, StableDiffusionPipeline):
    """The same in one class with the mixin."""

    def __call__(self, prompt: str, **kwargs: Any) -> Any:
        return super().__call__(f"a painting of {prompt}", **kwargs)


class PaintedStock(StableDiffusionPipeline):
    def __call__(self, prompt: str, **kwargs: Any) -> Any:
        return super().__call__(f"a painting of {prompt}", **kwargs)


class PaintedBelow(RDAAMPipelineMixin, PaintedStock):
    """The same below the mixin."""


@pytest.mark.parametrize("cls", [PaintedAtOnce, PaintedBelow])
def test_the_words_are_those_of_the_text_that_was_encoded(make, generate, cls):
    """A ``__call__`` that rewrites the prompt would otherwise shift every column."""
    output = generate(make(cls), "a red cat")
    wanted = generate(make(), "a painting of a red cat").attribution
    assert output.attribution.prompt == wanted.prompt
    assert torch.equal(output.attribution.word("cat").values, wanted.word("cat").values)


def test_positional_arguments(ours, generate):
    output = ours("a red cat", 64, 96, 2)
    assert output.images[0].size == (96, 64)
    assert output.attribution.prompt.text == "a red cat"
    assert output.attribution.run["num_inference_steps"] == 2


def test_from_pretrained(tiny, loaded, stock, generate):
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(tiny, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    output = generate(pipe)
    assert np.array_equal(pixels(output), pixels(generate(stock)))
    assert output.attribution.run["model"] == str(tiny)
    half = StableDiffusionRDAAMPipeline.from_pretrained(
        tiny, safety_checker=None, dtype=torch.bfloat16
    )
    half.set_progress_bar_config(disable=True)
    assert half.unet.dtype == torch.bfloat16
    assert generate(half).attribution.run["dtype"] == "bfloat16"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_from_pipe_shares_the_modules_and_keeps_their_type(make, generate, dtype):
    stock = make(StableDiffusionPipeline, dtype=dtype)
    before = pixels(generate(stock))
    pipe = StableDiffusionRDAAMPipeline.from_pipe(stock)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.unet is stock.unet
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {dtype}
    output = generate(pipe)
    assert np.array_equal(pixels(output), before) and output.attribution.words
    # The other pipeline has our processors now, and neither records nor changes.
    assert np.array_equal(pixels(generate(stock)), before)
    back = StableDiffusionPipeline.from_pipe(pipe, dtype=dtype)
    back.set_progress_bar_config(disable=True)
    assert np.array_equal(pixels(generate(back)), before)


@pytest.mark.parametrize("small", ["vae", "unet"])
def test_from_pipe_keeps_several_types(make, small):
    stock = make(StableDiffusionPipeline)
    getattr(stock, small).to(torch.bfloat16)
    stock.text_encoder.to(torch.float16)
    parts = {name: getattr(stock, name) for name in ("vae", "unet", "text_encoder")}
    before = {name: [(p.dtype, p.clone()) for p in m.parameters()] for name, m in parts.items()}
    pipe = StableDiffusionRDAAMPipeline.from_pipe(stock)
    for name, kept in before.items():
        for parameter, (dtype, values) in zip(getattr(pipe, name).parameters(), kept, strict=True):
            assert parameter.dtype == dtype and torch.equal(parameter, values)


def test_from_pipe_does_as_it_is_told(make):
    pipe = StableDiffusionRDAAMPipeline.from_pipe(make(Mine), dtype=torch.bfloat16)
    assert pipe.unet.dtype == torch.bfloat16


@pytest.mark.parametrize("cls", [StableDiffusionRDAAMPipeline, Mine, Painted])
def test_plain_diffusers_loads_what_was_saved(make, generate, stock, tmp_path, cls):
    pipe = make(cls)
    generate(pipe, "a red cat")
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert set(index) == {"_class_name", "_diffusers_version", "requires_safety_checker"} | set(
        pipe.components
    )
    for loader in (
        StableDiffusionPipeline,
        DiffusionPipeline,
        AutoPipelineForText2Image,
        StableDiffusionRDAAMPipeline,
    ):
        again = loader.from_pretrained(tmp_path, safety_checker=None)
        expected = (
            StableDiffusionRDAAMPipeline
            if loader is StableDiffusionRDAAMPipeline
            else StableDiffusionPipeline
        )
        assert type(again) is expected
        again.set_progress_bar_config(disable=True)
        assert np.array_equal(pixels(generate(again)), pixels(generate(stock)))


def test_repr_says_which_class_it_is(ours):
    assert repr(ours).startswith("StableDiffusionRDAAMPipeline {")


def test_a_deepcopy_is_a_pipeline_of_its_own(ours, generate):
    first = generate(ours)
    twin = copy.deepcopy(ours)
    assert twin.unet is not ours.unet
    assert twin.attribution.prompt == first.attribution.prompt
    output = generate(twin)
    assert np.array_equal(pixels(output), pixels(first))
    for one, other in zip(output.attribution.grids, first.attribution.grids, strict=True):
        assert torch.equal(one.maps, other.maps)
    site = "mid_block.attentions.0.transformer_blocks.0.attn2.processor"
    assert twin.unet.attn_processors[site] is not ours.unet.attn_processors[site]


@dataclass
class OwnOutput(BaseOutput):
    pictures: list[Any]


class OwnOutputPipeline(StableDiffusionPipeline):
    def __call__(self, *args: Any, **kwargs: Any) -> OwnOutput:
        return OwnOutput(pictures=super().__call__(*args, **kwargs).images)


class RecordedOwnOutput(RDAAMPipelineMixin, OwnOutputPipeline):
    pass


def test_an_output_class_of_ones_own_is_handed_over(make, generate):
    pipe = make(RecordedOwnOutput)
    output = generate(pipe, prompt="a red cat")
    assert type(output) is OwnOutput and len(output.pictures) == 1
    assert pipe.attribution.image is output.pictures[0]
