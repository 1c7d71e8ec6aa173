"""Processors of another tool: put in before a run or during one, and around ours."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from cell import arrays, fresh, same_maps
from conditions import COLUMNS
from diffusers.models.attention_processor import AttnProcessor2_0
from toys import CASES, call

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import NotRecordedWarning

SITE = "mid_block.attentions.0.transformer_blocks.0.attn2"


class HalfProcessor(AttnProcessor2_0):
    """Another tool's: the text counts half."""

    def __call__(self, attn: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return 0.5 * super().__call__(attn, hidden_states, *args, **kwargs)


class Wrapper:
    """Another tool's, around whatever was there."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls = 0

    def __call__(
        self,
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        temb: Any = None,
    ) -> Any:
        self.calls += 1
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


def run(case: Any, pipe: Any, **settings: Any) -> Any:
    return call(case, pipe, output_type="np", **settings)


def told(caught: Any) -> list[str]:
    return [str(w.message) for w in caught if issubclass(w.category, NotRecordedWarning)]


@pytest.mark.values
@pytest.mark.parametrize("cls", [HalfProcessor, lambda: Wrapper(AttnProcessor2_0())])
@pytest.mark.parametrize("when", ["before any run", "between runs", "during the run"])
@pytest.mark.parametrize("name", COLUMNS)
def test_the_image_is_that_of_the_other_tool(name: str, when: str, cls: Any):
    """It is never replaced by ours, and maps are not told to be whole where they may not be."""
    case = CASES[name]
    stock, ours = fresh(case, case.stock), fresh(case, case.ours)
    plain = run(case, stock)

    def replace(pipe: Any, step: int = 0, timestep: Any = None, tensors: Any = None) -> Any:
        pipe.unet.get_submodule(SITE).set_processor(cls())
        return tensors

    settings: dict[str, Any] = {}
    first = None
    if when == "between runs":
        first = run(case, ours)
    if when == "during the run":
        settings["callback_on_step_end"] = replace
    else:
        for pipe in (stock, ours):
            replace(pipe)
    wanted = run(case, stock, **settings)
    assert np.array_equal(arrays(wanted), arrays(plain)) == (cls is not HalfProcessor)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = run(case, ours, **settings)
    assert np.array_equal(arrays(output), arrays(wanted))
    assert output.attributions is None and len(told(caught)) == 1
    assert SITE in told(caught)[0]
    assert not isinstance(ours.unet.get_submodule(SITE).processor, RDAAMProcessor)
    # The cure.
    ours.unet.get_submodule(SITE).set_processor(AttnProcessor2_0())
    ours.set_attn_processor(RDAAMProcessor())
    again = run(case, ours)
    assert np.array_equal(arrays(again), arrays(plain))
    assert first is None or same_maps(again.attributions, first.attributions)


def test_a_wrapper_around_ours():
    """Another tool's wrapper is taken for what it is: a processor that nobody knows."""
    case = CASES["StableDiffusion"]
    ours = fresh(case, case.ours)
    first = run(case, ours)
    site = ours.unet.get_submodule(SITE)
    child = site.processor
    site.set_processor(Wrapper(child))
    with pytest.warns(NotRecordedWarning, match="have the processor Wrapper, and it is"):
        output = run(case, ours)
    assert np.array_equal(arrays(output), arrays(first)) and output.attributions is None
    site.set_processor(child)
    assert same_maps(run(case, ours).attributions, first.attributions)
