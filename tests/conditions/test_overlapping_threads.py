"""Runs that really overlap: every step of one waits for the same step of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cell import arrays, fresh, same_maps
from conditions import COLUMNS
from toys import CASES, PROMPT, call

from diffusers_rdaam.errors import AlreadyRecordingError

STEPS = {"output_type": "np", "num_inference_steps": 4}


def together(*tasks: Callable[[], None]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)


def test_pipelines_of_their_own():
    """Four kinds at once, each with its prompt."""
    prompts = dict(zip(COLUMNS, (PROMPT, "two dogs", "a blue house", "the mat"), strict=True))
    wanted = {
        name: call(CASES[name], fresh(CASES[name], CASES[name].ours), prompt, **STEPS)
        for name, prompt in prompts.items()
    }
    meeting = threading.Barrier(len(prompts), timeout=60)
    results: dict[str, Any] = {}
    met: list[str] = []

    def task(name: str) -> Callable[[], None]:
        case = CASES[name]
        ours = fresh(case, case.ours)

        def meet(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step < 2:
                meeting.wait()
                met.append(name)
            return tensors

        def work() -> None:
            results[name] = call(case, ours, prompts[name], callback_on_step_end=meet, **STEPS)

        return work

    together(*(task(name) for name in prompts))
    assert sorted(met) == sorted(2 * list(prompts))
    for name, prompt in prompts.items():
        assert np.array_equal(arrays(results[name]), arrays(wanted[name]))
        assert same_maps(results[name].attributions, wanted[name].attributions)
        assert results[name].attributions[0].prompt.text == prompt


@pytest.mark.parametrize("name", COLUMNS)
def test_one_pipeline(name: str):
    """The later runs are refused with the reason; the first is what it is alone, and the next."""
    case = CASES[name]
    ours = fresh(case, case.ours)
    alone = call(case, ours, **STEPS)
    inside = threading.Event()
    refused = threading.Barrier(4, timeout=60)
    results: list[Any] = []
    errors: list[str] = []

    def hold(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            inside.set()
            refused.wait()
        return tensors

    def first() -> None:
        results.append(call(case, ours, callback_on_step_end=hold, **STEPS))

    def later() -> None:
        assert inside.wait(60)
        try:
            call(case, ours, "two dogs", **STEPS)
        except AlreadyRecordingError as error:
            errors.append(str(error))
        refused.wait()

    together(first, later, later, later)
    assert len(errors) == 3
    assert all(
        "is being recorded already, by another call, pipeline or thread" in e for e in errors
    )
    assert np.array_equal(arrays(results[0]), arrays(alone))
    assert same_maps(results[0].attributions, alone.attributions)
    assert ours.attributions is results[0].attributions
    assert same_maps(call(case, ours, **STEPS).attributions, alone.attributions)
