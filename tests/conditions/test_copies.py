"""Copies and files of pipelines and outputs: before a run, after it, and while one is recorded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cell import arrays, fresh, same_maps
from diffusers import DiffusionPipeline
from toys import CASES, call

from diffusers_rdaam import RDAAMProcessor, record_attention

CASE = CASES["StableDiffusion"]
COPIES = [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
IDS = ["deepcopy", "pickle"]


def hookless(case: Any, cls: Any) -> Any:
    """Where hidden states were asked for once, transformers leaves hooks that cannot be pickled."""
    pipe = fresh(case, cls)
    for module in pipe.text_encoder.modules():
        module._forward_hooks.clear()
    return pipe


def run(pipe: Any, *args: Any, **settings: Any) -> Any:
    return call(CASE, pipe, *args, output_type="np", **settings)


def same(one: Any, other: Any) -> bool:
    equal = np.array_equal(arrays(one), arrays(other))
    return equal and same_maps(one.attributions, other.attributions)


@pytest.mark.parametrize("again", COPIES, ids=IDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_copied_pipeline_records_by_itself(again: Callable[[Any], Any], when: str):
    ours = hookless(CASE, CASE.ours)
    ours.set_attn_processor(RDAAMProcessor(backend="reference"))
    wanted = run(hookless(CASE, CASE.ours), "two dogs")
    if when == "after":
        first = run(ours)
    twin = again(ours)
    assert type(twin) is CASE.ours and twin.unet is not ours.unet
    if when == "after":
        assert same_maps(twin.attributions, first.attributions)
    output = run(twin, "two dogs")
    assert np.array_equal(arrays(output), arrays(wanted))
    assert {p.options.backend for n, p in twin.attn_processors.items() if "attn2" in n} == {
        "reference"
    }
    if when == "after":
        assert ours.attributions is first.attributions
        assert same(run(ours), first)


@pytest.mark.parametrize("again", COPIES, ids=IDS)
def test_a_copied_output_is_whole(again: Callable[[Any], Any]):
    output = run(hookless(CASE, CASE.ours))
    twin = again(output)
    assert type(twin) is type(output) and same(twin, output)
    assert twin.attribution.region((0, 0, 32, 32)).words == (
        output.attribution.region((0, 0, 32, 32)).words
    )


@pytest.mark.parametrize("again", COPIES)
def test_a_copy_made_within_a_run_is_not_in_it(again: Callable[[Any], Any]):
    ours = hookless(CASE, CASE.ours)
    first = run(ours)
    twins: list[Any] = []

    def duplicate(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        if step == 0:
            twins.append(again(pipe))
        return tensors

    assert same(run(ours, callback_on_step_end=duplicate), first)
    output = run(twins[0])
    assert same(output, first)
    assert same(run(ours), first)


@pytest.mark.parametrize("again", COPIES)
def test_a_stock_pipeline_copied_while_it_is_recorded(again: Callable[[Any], Any]):
    stock = hookless(CASE, CASE.stock)
    wanted = run(hookless(CASE, CASE.ours))
    with record_attention(stock) as recording:
        output = run(stock)
        twin = again(stock)
    assert np.array_equal(arrays(output), arrays(wanted))
    assert same_maps(recording.attributions, wanted.attributions)
    # What the copy is has been told by nobody; that it makes the same image has.
    assert isinstance(twin, CASE.stock)
    assert np.array_equal(arrays(run(twin)), arrays(wanted))
    assert type(stock) is CASE.stock


@pytest.mark.parametrize("when", ["before", "after", "within", "record_attention"])
def test_a_saved_pipeline_is_a_stock_one(when: str, tmp_path: Any):
    stock, ours = hookless(CASE, CASE.stock), hookless(CASE, CASE.ours)
    wanted = run(stock)

    def save(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        pipe.save_pretrained(tmp_path)
        return tensors

    if when == "record_attention":
        with record_attention(stock):
            run(stock)
            stock.save_pretrained(tmp_path)
    else:
        if when == "after":
            run(ours)
        if when == "within":
            run(ours, callback_on_step_end=save)
        else:
            ours.save_pretrained(tmp_path)
    pipe = DiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is CASE.stock
    state = pipe.unet.state_dict()
    assert all(torch.equal(state[name], part) for name, part in stock.unet.state_dict().items())
    # Weights from a file lie elsewhere in memory, and alignment decides about kernels.
    np.testing.assert_allclose(run(pipe).images, wanted.images, atol=1e-4)
    loaded = CASE.ours.from_pretrained(tmp_path, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    assert run(loaded).attribution.words
