"""Timing on a machine that is shared: CPU seconds of one thread, in rounds that are interleaved.

Wall time on a shared machine is one to four times the CPU time. What drifts (clock rate, caches,
neighbours) hits every candidate of a round alike, and the order rotates, so that none is always
the first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


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
        factor = {"s": 1.0, "ms": 1e3}[unit]
        if len(self.seconds) == 1:
            return f"{self.median * factor:.3g} {unit}"
        low, high = min(self.seconds) * factor, max(self.seconds) * factor
        return f"{self.median * factor:.3g} {unit} ({low:.3g} to {high:.3g})"


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
) -> dict[str, Sample]:
    """Measure all candidates once a round, in an order that rotates.

    Args:
        candidates: what to call, by name.
        rounds: measurements of each.
        repeats: calls in one measurement.
        warm_up: call each once before, not measured.
    """
    names = list(candidates)
    if warm_up:
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(cpu_seconds(candidates[name], repeats))
    return {name: Sample(tuple(values)) for name, values in seconds.items()}
