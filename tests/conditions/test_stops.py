"""Runs that end in the middle, anywhere; the next one is as the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cell import arrays, fresh, same_maps
from conditions import COLUMNS
from toys import CASES, call

from diffusers_rdaam import record_attention
from diffusers_rdaam.errors import NoAttributionError


class Boom(Exception):
    pass


def stop_within(pipe: Any, where: str, error: type[BaseException]) -> Any:
    """A handle on what raises at the second time that a part of the pipeline works."""
    module = {
        "text encoder": pipe.text_encoder,
        "denoiser": pipe.unet,
        "attention": pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_out[0],
        "decoder": pipe.vae.decoder,
    }[where]
    late = where in ("denoiser", "attention")
    times = []

    def fail(*_: Any) -> None:
        times.append(1)
        if len(times) > late:
            raise error("stop")

    return module.register_forward_hook(fail)


@pytest.mark.values
@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["text encoder", "denoiser", "attention", "decoder"])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_next_run_is_as_the_first(name: str, where: str, error: type[BaseException]):
    case = CASES[name]
    ours = fresh(case, case.ours)
    first = call(case, ours, output_type="np")
    handle = stop_within(ours, where, error)
    with pytest.raises(error, match="stop"):
        call(case, ours, "two dogs")
    handle.remove()
    with pytest.raises(NoAttributionError, match=r"^The last run ended with an exception, so it"):
        _ = ours.attribution
    assert first.attributions[0].words, "an earlier output keeps its attribution"
    again = call(case, ours, output_type="np")
    assert np.array_equal(arrays(again), arrays(first))
    assert same_maps(again.attributions, first.attributions)


@pytest.mark.every(2)
@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_stock_pipeline_is_what_it_was(name: str, error: type[BaseException]):
    case = CASES[name]
    stock = fresh(case, case.stock)
    first = call(case, stock, output_type="np")
    before = dict(stock.unet.attn_processors), set(stock.__dict__), type(stock)
    handle = stop_within(stock, "denoiser", error)
    with pytest.raises(error), record_attention(stock):
        call(case, stock)
    handle.remove()
    assert (dict(stock.unet.attn_processors), set(stock.__dict__), type(stock)) == before
    assert not stock.unet._forward_pre_hooks
    assert np.array_equal(arrays(call(case, stock, output_type="np")), arrays(first))


def test_stopped_while_a_processor_of_another_size_was_armed():
    """The buffers of the stopped run are not those of the next."""
    case = CASES["StableDiffusion"]
    ours = fresh(case, case.ours)
    first = call(case, ours, output_type="np")
    handle = stop_within(ours, "attention", Boom)
    with pytest.raises(Boom):
        call(case, ours, height=48, width=80, num_images_per_prompt=2)
    handle.remove()
    for processor in ours.unet.attn_processors.values():
        assert getattr(processor, "target", None) is None
    again = call(case, ours, output_type="np")
    assert torch.equal(again.attribution.grids[0].maps, first.attribution.grids[0].maps)
