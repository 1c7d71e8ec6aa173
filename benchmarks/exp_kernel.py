"""How many exponentials a CUDA device computes in registers, where no memory holds it up.

torch's own ``exp2`` waits for its reads and writes on every GPU, so that its rate is no ceiling for
a kernel that has the logits in registers. Each element's number is replaced by ``2 ** -number``
many times over, which stays between 0 and 1.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from benchmarks.timing import Clock, interleaved

BLOCK = 1024
STEPS = 512
# Programs for each multiprocessor: enough to fill it several times over.
PROGRAMS = 32


@triton.jit
def exponentials(numbers, block: tl.constexpr, steps: tl.constexpr):
    """Replace each number ``steps`` times by ``2 ** -number``."""
    places = numbers + tl.program_id(0) * block + tl.arange(0, block)
    number = tl.load(places)
    for _ in range(steps):
        number = tl.exp2(-number)
    tl.store(places, number)


def launch(clock: Clock, *, rounds: int) -> list[tuple[int, float]]:
    """Pairs of how many exponentials were computed, and in how many seconds."""
    device = torch.device("cuda")
    programs = PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
    numbers = torch.rand(programs * BLOCK, device=device)
    calls = {"exp2": lambda: exponentials[(programs,)](numbers, BLOCK, STEPS)}
    taken = interleaved(calls, rounds=rounds, clock=clock)["exp2"]
    return [(numbers.numel() * STEPS, seconds) for seconds in taken.seconds]
