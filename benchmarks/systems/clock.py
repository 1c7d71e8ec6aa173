"""Seconds of a call and of the modules in it: one thread's CPU time, or a CUDA stream's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from benchmarks.timing import Sample


class Clock(Protocol):
    """Marks and the seconds between them."""

    def mark(self) -> Any:
        """Now."""

    def seconds(self, start: Any, stop: Any) -> float:
        """From one mark to another."""

    def answer(self, ask: Callable[[], object]) -> float:
        """Seconds until a question is answered, whatever computes it."""


class ThreadClock:
    """CPU seconds of this thread, which other processes do not lengthen.

    Raises:
        RuntimeError: torch would compute on other threads, whose time is not seen here.
    """

    def __init__(self) -> None:
        if torch.get_num_threads() != 1:
            raise RuntimeError("Only this thread's time is measured: call torch.set_num_threads(1)")

    def mark(self) -> float:
        """Seconds of this thread so far."""
        return time.thread_time()

    def seconds(self, start: float, stop: float) -> float:
        """The difference."""
        return stop - start

    def answer(self, ask: Callable[[], object]) -> float:
        """CPU seconds."""
        start = self.mark()
        ask()
        return self.mark() - start


class StreamClock:
    """Seconds on the device's current stream, gaps in which it waits for the host included."""

    def mark(self) -> torch.cuda.Event:
        """An event behind the work so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        """Waits until both have happened."""
        stop.synchronize()
        return start.elapsed_time(stop) / 1e3

    def answer(self, ask: Callable[[], object]) -> float:
        """Wall seconds: an answer is partly the host's work."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        ask()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def clock_of(device: torch.device) -> Clock:
    """The device's."""
    return StreamClock() if device.type == "cuda" else ThreadClock()


def timed(
    call: Callable[[], object], groups: Sequence[Iterable[nn.Module]], clock: Clock
) -> tuple[float, ...]:
    """Seconds of a call, and of these in each group of modules, processors and hooks included.

    Args:
        call: to be timed.
        groups: modules none of which is inside of another.
        clock: of the device.
    """
    with ExitStack() as stack:
        spans = [stack.enter_context(_watched(modules, clock)) for modules in groups]
        start = clock.mark()
        call()
        stop = clock.mark()
    inside = (sum(clock.seconds(*span) for span in group) for group in spans)
    return (clock.seconds(start, stop), *inside)


def rounds(
    candidates: Mapping[str, Callable[[], tuple[float, ...]]], number: int
) -> dict[str, tuple[Sample, ...]]:
    """Time all candidates once a round, in an order that rotates.

    Args:
        candidates: a measurement each, as :func:`timed` returns it.
        number: of rounds.
    """
    names = list(candidates)
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for count in range(number):
        shift = count % len(names)
        for name in names[shift:] + names[:shift]:
            taken[name].append(candidates[name]())
    return {
        name: tuple(Sample(seconds) for seconds in zip(*measured, strict=True))
        for name, measured in taken.items()
    }


@contextmanager
def _watched(modules: Iterable[nn.Module], clock: Clock) -> Iterator[list[tuple[Any, Any]]]:
    starts: list[Any] = []
    spans: list[tuple[Any, Any]] = []

    def start(*unused: Any) -> None:
        starts.append(clock.mark())

    def stop(*unused: Any) -> None:
        spans.append((starts.pop(), clock.mark()))

    handles = []
    for module in modules:
        # Around what a system has hooked before: first of all, and after all.
        handles.append(module.register_forward_pre_hook(start, prepend=True))
        handles.append(module.register_forward_hook(stop))
    try:
        yield spans
    finally:
        for handle in handles:
            handle.remove()
