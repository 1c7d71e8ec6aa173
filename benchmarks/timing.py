"""Timing on a machine that is shared: a clock for each device, in rounds that are interleaved.

On a processor the clock is CPU seconds of one thread: wall time on a shared machine is one to four
times as much. On a CUDA device it is what passes between two events of its stream. What drifts
(clock rate, caches, neighbours) hits every candidate of a round alike, and the order rotates, so
that none is always the first.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}


@dataclass(frozen=True)
class Sample:
    """Repeated measurements in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def minus(self, other: Sample) -> Sample:
        """The differences round by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return Sample(tuple(mine - theirs for mine, theirs in pairs))

    def times(self, factor: float) -> Sample:
        """Each of them so often."""
        return Sample(tuple(factor * value for value in self.seconds))

    def over(self, other: Sample) -> tuple[float, float, float]:
        """Median, smallest and largest ratio round by round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        ratios = [mine / theirs for mine, theirs in pairs]
        return statistics.median(ratios), min(ratios), max(ratios)

    def text(self, unit: str = "ms") -> str:
        """``median unit (smallest to largest)``; of one measurement itself alone."""
        factor = UNITS[unit]
        if len(self.seconds) == 1:
            return f"{self.median * factor:.3g} {unit}"
        low, high = min(self.seconds) * factor, max(self.seconds) * factor
        return f"{self.median * factor:.3g} {unit} ({low:.3g} to {high:.3g})"


class Clock(Protocol):
    """What measures calls."""

    # How rows name what it measures.
    name: str
    # Calls of each candidate before the first that is measured.
    warm_up: int

    def seconds(self, call: Callable[[], object], repeats: int = 1) -> float:
        """Seconds of one call, mean over ``repeats``."""


class ThreadClock:
    """CPU seconds of the calling thread."""

    name = "CPU time"
    warm_up = 1

    def seconds(self, call: Callable[[], object], repeats: int = 1) -> float:
        """See :func:`cpu_seconds`."""
        return cpu_seconds(call, repeats)


class DeviceClock:
    """Seconds between two events of a CUDA device's current stream.

    Args:
        device: whose.
        cold: bytes that are written before each call, outside of the measurement. That empties the
            caches, and while the device is at it the call's kernels are queued: what is measured
            is the device's work, not the time to launch it. With 0 the device is idle before the
            first call, and a call that launches more slowly than it computes shows that.
    """

    name = "device time"
    # Kernels are chosen and compiled, and memory is taken, by the first calls.
    warm_up = 3

    def __init__(self, device: torch.device | str = "cuda", *, cold: int = 0) -> None:
        self.device = torch.device(device)
        self._written = torch.empty(cold, dtype=torch.uint8, device=self.device) if cold else None

    def seconds(self, call: Callable[[], object], repeats: int = 1) -> float:
        """Seconds of one call on the device, mean over ``repeats``; waits for them."""
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            pairs = [self._between(call) for _ in range(repeats)]
            torch.cuda.synchronize()
        return sum(start.elapsed_time(stop) for start, stop in pairs) / 1e3 / repeats

    def _between(self, call: Callable[[], object]) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if self._written is not None:
            self._written.zero_()
        start.record()
        call()
        stop.record()
        return start, stop


def clock_for(device: torch.device | str) -> Clock:
    """The clock of a device's kind.

    Raises:
        ValueError: there is none for it.
    """
    kind = torch.device(device).type
    if kind == "cpu":
        return ThreadClock()
    if kind == "cuda":
        return DeviceClock(device)
    raise ValueError(f"No clock for a device of kind {kind!r}. Kinds: 'cpu', 'cuda'.")


def cpu_seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """CPU seconds of this thread for one call, mean over ``repeats``.

    Raises:
        RuntimeError: torch would compute on other threads, whose time is not seen here.
    """
    if torch.get_num_threads() != 1:
        raise RuntimeError("Only this thread's time is measured: call torch.set_num_threads(1).")
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - start) / repeats


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    repeats: int = 1,
    warm_up: bool = True,
    clock: Clock | None = None,
) -> dict[str, Sample]:
    """Measure all candidates once a round, in an order that rotates.

    Args:
        candidates: what to call, by name.
        rounds: measurements of each.
        repeats: calls in one measurement.
        warm_up: call each before, not measured, as often as the clock says.
        clock: what measures; CPU seconds of this thread if not given.
    """
    clock = clock or ThreadClock()
    names = list(candidates)
    if warm_up:
        for call in candidates.values():
            for _ in range(clock.warm_up):
                call()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(clock.seconds(candidates[name], repeats))
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """The ``p`` of ``cost = c * size ** p``, by least squares of the logarithms.

    None where a cost is not positive, as a small difference of large times can be, or where there
    are fewer than two sizes.
    """
    if len(set(sizes)) < 2 or min(costs) <= 0:
        return None
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    slope, _ = statistics.linear_regression(xs, ys)
    return slope
