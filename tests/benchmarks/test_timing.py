"""Clocks, and rounds that are interleaved and rotate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from benchmarks.timing import (
    DeviceClock,
    Sample,
    ThreadClock,
    clock_for,
    cpu_seconds,
    exponent,
    interleaved,
)


class _Counting:
    """A clock that tells the number of the measurement."""

    name = "numbers"
    warm_up = 2

    def __init__(self) -> None:
        self.measured = 0

    def seconds(self, call: Callable[[], object], repeats: int = 1) -> float:
        for _ in range(repeats):
            call()
        self.measured += 1
        return float(self.measured)


def test_rounds_are_interleaved_and_rotate() -> None:
    calls: list[str] = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    taken = interleaved(candidates, rounds=4, clock=_Counting())
    assert calls[:6] == list("aabbcc")
    assert calls[6:] == list("abc" + "bca" + "cab" + "abc")
    assert taken["a"].seconds == (1.0, 6.0, 8.0, 10.0)
    assert taken["c"].seconds == (3.0, 5.0, 7.0, 12.0)


def test_repeats_and_no_warm_up() -> None:
    calls: list[str] = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    interleaved(candidates, rounds=2, repeats=2, warm_up=False, clock=_Counting())
    assert calls == list("aabb" + "bbaa")


def test_samples() -> None:
    mine, stock = Sample((2.0, 4.0, 9.0)), Sample((1.0, 4.0, 3.0))
    assert mine.median == 4.0
    assert mine.minus(stock).seconds == (1.0, 0.0, 6.0)
    assert mine.over(stock) == (2.0, 1.0, 3.0)
    assert mine.times(10).seconds == (20.0, 40.0, 90.0)
    assert mine.text("s") == "4 s (2 to 9)"
    assert Sample((0.0025,)).text() == "2.5 ms"
    assert Sample((2.5e-6,)).text("us") == "2.5 us"


def test_the_clock_of_a_thread_sees_its_own_work_alone() -> None:
    assert 0 <= cpu_seconds(lambda: time.sleep(0.05)) < 0.02

    def elsewhere() -> None:
        thread = threading.Thread(target=_work)
        thread.start()
        thread.join()

    assert cpu_seconds(elsewhere) < cpu_seconds(_work) / 2


def _work() -> None:
    sum(range(2_000_000))


def test_other_threads_of_torch_are_refused() -> None:
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match=r"call torch.set_num_threads\(1\)"):
            cpu_seconds(lambda: None)
    finally:
        torch.set_num_threads(1)


def test_each_kind_of_device_has_its_clock() -> None:
    assert isinstance(clock_for("cpu"), ThreadClock)
    with pytest.raises(ValueError, match="No clock for a device of kind 'meta'"):
        clock_for("meta")


def test_exponents_are_those_of_the_law() -> None:
    sizes = (32, 48, 64, 128)
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [1.0, 2.0, -0.1, 3.0]) is None
    assert exponent((5, 5), [1.0, 2.0]) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cold", [0, 2**26])
def test_the_clock_of_a_device_sees_the_device(cold: int) -> None:
    clock = DeviceClock("cuda", cold=cold)
    matrix = torch.randn(2048, 2048, device="cuda")

    def products(count: int) -> None:
        for _ in range(count):
            matrix @ matrix

    products(3)
    taken = [min(clock.seconds(lambda n=n: products(n)) for _ in range(5)) for n in (4, 16, 64)]
    assert all(2 < more / less < 6 for less, more in pairwise(taken))
