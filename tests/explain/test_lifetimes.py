"""A denoiser goes with its pipeline, whatever was asked of it before, and however that ended."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.scenarios import BOX, SCENARIOS
from benchmarks.toy_host import PROMPT, new_host, settings
from diffusers_rdaam import explain_ablation, explain_gradient

NAMES = [
    "callbacks",
    "vocabulary",
    "record_attention",
    "own_loop",
    "query",
    "gradient",
    "integrated",
    "ablation",
    "save_attention",
    "inject_into_ours",
    "optimize_token",
    "compat_daam",
    "compat_ovam",
    "compat_rdaam_hooks",
    "compat_diffusers_interpret",
]


class Stopped(Exception):
    """Of the test, in the middle of a run."""


@pytest.fixture(autouse=True, scope="module")
def libraries_are_not_looked_through() -> None:
    gc.collect()
    gc.freeze()


def _stop_late(pipe: Any, error: type[BaseException]) -> None:
    """The second call of the denoiser, or of the text encoder where that alone is called, stops."""
    calls = []

    def stop(module: nn.Module, *unused: Any) -> None:
        calls.append(module)
        if len(calls) == 2:
            raise error

    pipe.unet.mid_block.register_forward_hook(stop)
    pipe.text_encoder.register_forward_hook(stop)


@pytest.mark.every(3)
@pytest.mark.parametrize("error", [None, Stopped, KeyboardInterrupt])
@pytest.mark.parametrize("name", NAMES)
def test_the_denoiser_is_freed(name: str, error: type[BaseException] | None) -> None:
    scenario = SCENARIOS[name]
    pipe = scenario.host()
    needed = scenario.ready(pipe)
    result = None
    if error is None:
        # What is answered holds no model.
        result = scenario.run(pipe, needed)
    else:
        _stop_late(pipe, error)
        with suppress(error):
            scenario.run(pipe, needed)
    denoiser, encoder = weakref.ref(pipe.unet), weakref.ref(pipe.text_encoder)
    del pipe, needed
    gc.collect()
    assert denoiser() is None and encoder() is None
    del result


def test_what_explanations_answer_holds_no_graph() -> None:
    pipe = new_host()
    words = explain_gradient(pipe, PROMPT, region=BOX, **settings())
    changes = explain_ablation(pipe, PROMPT, region=BOX, words=["cat"], **settings())
    gc.collect()
    before = sum(1 for found in gc.get_objects() if issubclass(type(found), torch.Tensor))
    explain_gradient(pipe, PROMPT, region=BOX, **settings())
    gc.collect()
    after = sum(1 for found in gc.get_objects() if issubclass(type(found), torch.Tensor))
    assert after == before, "a call leaves no tensor"
    assert not words.values.requires_grad
    assert changes.words
