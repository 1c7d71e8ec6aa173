"""One denoiser's queue: one run at a time, in order; cancelled runs end and hold nothing up."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from diffusers_rdaam import InputError, RepeatedWordWarning
from diffusers_rdaam.app import runs
from diffusers_rdaam.app.runs import CancelledRun, Denoiser, Run


@pytest.fixture
def denoiser() -> Iterator[Denoiser]:
    made = Denoiser("a model", lambda: "the pipeline")
    yield made
    made.close()


def test_runs_are_done_one_at_a_time_and_in_order(denoiser: Denoiser) -> None:
    at_once, order, lock = [0, 0], [], threading.Lock()

    def work(pipe: Any, number: int) -> int:
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
            order.append(number)
        time.sleep(0.005)
        with lock:
            at_once[0] -= 1
        return 10 * number

    first = threading.Event()
    blocking = denoiser.submit(lambda pipe, run: first.wait(10))
    submitted = [denoiser.submit(lambda pipe, run, n=n: work(pipe, n)) for n in range(8)]
    assert [denoiser.place(run) for run in submitted] == list(range(1, 9))
    first.set()
    assert [run.wait(10) and run.outcome() for run in submitted] == [10 * n for n in range(8)]
    assert order == list(range(8)) and at_once[1] == 1
    assert blocking.outcome() is True and denoiser.is_idle


def test_a_waiting_run_is_cancelled_at_once_and_never_begun(denoiser: Denoiser) -> None:
    go, begun = threading.Event(), []
    denoiser.submit(lambda pipe, run: go.wait(10))
    waiting = denoiser.submit(lambda pipe, run: begun.append(1))
    last = denoiser.submit(lambda pipe, run: "last")
    waiting.cancel()
    assert waiting.has_ended and waiting.state == "cancelled" and denoiser.place(last) == 1
    go.set()
    assert last.wait(10) and last.outcome() == "last" and not begun
    with pytest.raises(CancelledRun):
        waiting.outcome()


def test_a_running_run_ends_at_its_next_step_and_frees_the_denoiser(denoiser: Denoiser) -> None:
    steps: list[int] = []
    begun = threading.Event()

    def work(pipe: Any, run: Run) -> None:
        for step in range(1000):
            steps.append(step)
            begun.set()
            time.sleep(0.005)
            run.at_step(None, step, 0, {})

    run = denoiser.submit(work)
    begun.wait(10)
    run.cancel()
    after = denoiser.submit(lambda pipe, run: pipe)
    assert after.wait(10) and after.outcome() == "the pipeline"
    assert run.state == "cancelled" and len(steps) < 500


def test_an_error_is_its_run_s_and_the_next_has_its_turn(denoiser: Denoiser) -> None:
    def refuse(pipe: Any, run: Run) -> None:
        raise InputError("The prompt is too red.")

    def crash(pipe: Any, run: Run) -> None:
        raise KeyError("latents")

    first, second = denoiser.submit(refuse), denoiser.submit(crash)
    third = denoiser.submit(lambda pipe, run: 3)
    assert third.wait(10) and third.outcome() == 3
    with pytest.raises(InputError, match="too red"):
        first.outcome()
    with pytest.raises(RuntimeError, match="KeyError: 'latents'"):
        second.outcome()


def test_a_model_that_cannot_be_loaded_is_tried_again() -> None:
    tries: list[int] = []

    def load() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise InputError("There is no such model.")
        return "loaded"

    denoiser = Denoiser("late", load)
    try:
        first, second = denoiser.submit(lambda p, run: p), denoiser.submit(lambda p, run: p)
        assert second.wait(10) and second.outcome() == "loaded"
        with pytest.raises(InputError, match="no such model"):
            first.outcome()
    finally:
        denoiser.close()


def test_a_full_queue_says_so_and_takes_runs_again(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_WAITING", 2)
    go, begun = threading.Event(), threading.Event()
    denoiser.submit(lambda pipe, run: (begun.set(), go.wait(10)))
    begun.wait(10)
    waiting = [denoiser.submit(lambda pipe, run: 1) for _ in range(2)]
    with pytest.raises(InputError, match="queue is full: 2 runs wait for a model"):
        denoiser.submit(lambda pipe, run: 2)
    waiting[0].cancel()
    denoiser.submit(lambda pipe, run: 2)
    go.set()


def test_warnings_go_to_the_run_that_they_are_of() -> None:
    shown, filters = warnings.showwarning, list(warnings.filters)
    both = threading.Barrier(2, timeout=10)

    def work(pipe: str, run: Run) -> None:
        both.wait()
        for _ in range(3):
            warnings.warn(f"a word of {pipe} repeats", RepeatedWordWarning, stacklevel=1)
        both.wait()

    denoisers = [Denoiser(name, lambda name=name: name) for name in ("red", "blue")]
    try:
        made = [one.submit(work) for one in denoisers]
        assert all(run.wait(10) for run in made)
        assert [run.error for run in made] == [None, None]
        assert [run.warnings for run in made] == [
            ["a word of red repeats"],
            ["a word of blue repeats"],
        ]
    finally:
        for one in denoisers:
            one.close()
    assert warnings.showwarning is shown and warnings.filters == filters


def test_what_a_run_held_is_let_go(denoiser: Denoiser) -> None:
    class Tensor:
        pass

    held = [Tensor()]
    watched = weakref.ref(held[0])

    def work(pipe: Any, run: Run, mine: Any = held.pop()) -> None:  # noqa: B008  # held by the work
        frame = [mine]
        raise ValueError(f"of {len(frame)}")

    run = denoiser.submit(work)
    assert run.wait(10)
    del work
    gc.collect()
    assert watched() is None and "ValueError: of 1" in str(run.error)


def test_the_end_of_a_server_ends_every_run() -> None:
    denoiser, begun = Denoiser("a model", lambda: None), threading.Event()

    def work(pipe: Any, run: Run) -> None:
        begun.set()
        while True:
            run.check()
            time.sleep(0.001)

    going_on, waiting = denoiser.submit(work), denoiser.submit(work)
    begun.wait(10)
    denoiser.close()
    assert (going_on.state, waiting.state) == ("cancelled", "cancelled")
    with pytest.raises(InputError, match="shutting down"):
        denoiser.submit(work)
