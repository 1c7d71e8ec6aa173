"""What a device reaches at most, measured: bytes per second, FLOP/s, exponentials per second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.timing import Clock, interleaved

ROUNDS = 7
# Elements of float32 in each of three buffers, larger than any cache; and the side of a matrix.
ELEMENTS = {"cpu": 2**26, "cuda": 2**28}
SIDE = {"cpu": 1024, "cuda": 8192}
# Exponentials of a processor: numbers that stay in its second-level cache.
CACHED = 2**16


@dataclass(frozen=True)
class Ceilings:
    """The best of several rounds each: a ceiling is not what is usual.

    Args:
        bandwidth: bytes per second, read and written, out of cache.
        flops: per second by type, of a large matrix product; a product and a sum are two.
        exps: exponentials per second in float32.
    """

    bandwidth: float
    flops: dict[torch.dtype, float]
    exps: float


@dataclass(frozen=True)
class Work:
    """The least that a kernel must do.

    Args:
        nbytes: every input read once, every output written once.
        flops: of its matrix products.
        exps: exponentials.
        dtype: that its matrix products are in.
    """

    nbytes: int
    flops: int
    exps: int
    dtype: torch.dtype

    def floors(self, ceilings: Ceilings) -> dict[str, float]:
        """Seconds that each kind of work takes at its ceiling, if nothing else took any."""
        return {
            "memory": self.nbytes / ceilings.bandwidth,
            "matrix": self.flops / ceilings.flops[self.dtype],
            "exponentials": self.exps / ceilings.exps,
        }


def measure(device: str, dtypes: Sequence[torch.dtype], clock: Clock) -> Ceilings:
    """All ceilings of a device.

    Args:
        device: ``"cpu"`` (one thread) or ``"cuda"``.
        dtypes: of the matrix products.
        clock: of the device.
    """
    flops = {dtype: _flops(device, dtype, clock) for dtype in dtypes}
    return Ceilings(_bandwidth(device, clock), flops, _exps(device, clock))


def _bandwidth(device: str, clock: Clock) -> float:
    """Of a copy and of ``a + s * b``, the better one."""
    count = ELEMENTS[device]
    a, b, out = (torch.full((count,), 1.0, device=device) for _ in range(3))
    moved = {"copy": 2 * a.nbytes, "triad": 3 * a.nbytes}
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: out.copy_(a),
        "triad": lambda: torch.add(a, b, alpha=0.5, out=out),
    }
    taken = interleaved(calls, rounds=ROUNDS, clock=clock)
    return max(moved[name] / min(sample.seconds) for name, sample in taken.items())


def _flops(device: str, dtype: torch.dtype, clock: Clock) -> float:
    side = SIDE[device]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    calls = {"product": lambda: torch.mm(a, b, out=out)}
    return 2 * side**3 / min(interleaved(calls, rounds=ROUNDS, clock=clock)["product"].seconds)


def _exps(device: str, clock: Clock) -> float:
    if device == "cuda":
        from benchmarks.exp_kernel import launch

        return max(count / seconds for count, seconds in launch(clock, rounds=ROUNDS))
    numbers = torch.linspace(-8.0, 0.0, CACHED)
    out = torch.empty_like(numbers)
    calls = {"exp2": lambda: torch.exp2(numbers, out=out)}
    taken = interleaved(calls, rounds=ROUNDS, repeats=50, clock=clock)
    return CACHED / min(taken["exp2"].seconds)
