"""Pipelines made by ``from_pipe`` share a denoiser: in turns, one within the other, in threads."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import numpy as np
from cell import arrays, fresh, same_maps
from toys import CASES, call

from diffusers_rdaam.errors import NotRecordedWarning

TEXT, IMAGE = CASES["StableDiffusion"], CASES["StableDiffusionImg2Img"]
DOGS = "two blue dogs, on the mat"


def run(case: Any, pipe: Any, *args: Any, **settings: Any) -> Any:
    return call(case, pipe, *args, output_type="np", **settings)


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_one_of_ours_and_a_stock_one_in_turns():
    ours = fresh(TEXT, TEXT.ours)
    stock = quiet(TEXT.stock.from_pipe(ours))
    assert stock.unet is ours.unet and type(stock) is TEXT.stock
    first = run(TEXT, ours)
    for _ in range(2):
        plain = run(TEXT, stock, DOGS)
        assert np.array_equal(arrays(plain), arrays(run(TEXT, fresh(TEXT, TEXT.stock), DOGS)))
        again = run(TEXT, ours)
        assert np.array_equal(arrays(again), arrays(first))
        assert same_maps(again.attributions, first.attributions)


def test_two_of_ours_in_turns():
    ours = fresh(TEXT, TEXT.ours)
    other = quiet(IMAGE.ours.from_pipe(ours))
    assert other.unet is ours.unet
    first, wanted = run(TEXT, ours), run(IMAGE, fresh(IMAGE, IMAGE.ours), DOGS)
    for _ in range(2):
        output = run(IMAGE, other, DOGS)
        assert np.array_equal(arrays(output), arrays(wanted))
        assert same_maps(output.attributions, wanted.attributions)
        assert output.attribution.prompt.text == DOGS
        again = run(TEXT, ours)
        assert same_maps(again.attributions, first.attributions)
        assert again.attribution.prompt.text != DOGS


def maps_or_reason(first: Any, output: Any, caught: Any) -> None:
    """Never the maps of somebody else's call: either they are right, or a warning says why not."""
    assert np.array_equal(arrays(output), arrays(first))
    told = [w for w in caught if issubclass(w.category, NotRecordedWarning)]
    assert (output.attributions is None) == bool(told)
    if output.attributions is not None:
        assert same_maps(output.attributions, first.attributions)


def test_a_stock_run_within_a_recorded_one():
    ours = fresh(TEXT, TEXT.ours)
    first = run(TEXT, ours)
    stock = quiet(IMAGE.stock.from_pipe(ours))
    scheduler = ours.scheduler
    stock.scheduler = type(scheduler).from_config(scheduler.config)
    wanted = run(IMAGE, fresh(IMAGE, IMAGE.stock), DOGS)

    def nest(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            nested.append(run(IMAGE, stock, DOGS))
        return tensors

    nested: list[Any] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = run(TEXT, ours, callback_on_step_end=nest)
    assert np.array_equal(arrays(nested[0]), arrays(wanted))
    maps_or_reason(first, output, caught)


def test_a_stock_run_in_another_thread():
    ours = fresh(TEXT, TEXT.ours)
    first = run(TEXT, ours, num_inference_steps=3)
    stock = quiet(TEXT.stock.from_pipe(ours))
    stock.scheduler = type(ours.scheduler).from_config(ours.scheduler.config)
    # One tokenizer in two threads mixes up their padding: each call writes it into the tokenizer
    # before it reads it, so that two stock pipelines would give wrong images too.
    stock.tokenizer = copy.deepcopy(ours.tokenizer)
    wanted = run(TEXT, fresh(TEXT, TEXT.stock), DOGS, num_inference_steps=3)
    meeting = threading.Barrier(2, timeout=60)
    results: dict[str, Any] = {}

    def meet(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        meeting.wait()
        return tensors

    def work(name: str, pipe: Any, *args: Any) -> None:
        settings = {"num_inference_steps": 3, "callback_on_step_end": meet}
        results[name] = run(TEXT, pipe, *args, **settings)

    threads = [
        threading.Thread(target=work, args=("ours", ours)),
        threading.Thread(target=work, args=("stock", stock, DOGS)),
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert np.array_equal(arrays(results["stock"]), arrays(wanted))
    maps_or_reason(first, results["ours"], caught)
