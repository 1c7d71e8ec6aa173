"""The size of SDXL at 1024x1024: what an image keeps, what recording adds to a UNet call."""

from __future__ import annotations

from benchmarks import memory, recording_cost
from benchmarks.report import Row
from benchmarks.sizes import SDXL
from benchmarks.whole_unet import whole_unet

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/recording/test_accumulator.py",
    "tests/attention/test_processor.py",
)

CALLS = (1, 10)
GOAL = 1_600_000


def run(*, full: bool = False) -> list[Row]:
    """Its 70 attention modules; with ``full`` also a whole UNet call of each kind (12 GB)."""
    rows = memory.rows("sdxl", SDXL, calls=CALLS, goal=GOAL, share="a sixteenth")
    rows += recording_cost.modules("sdxl", SDXL, alike=True)
    return rows + whole_unet("sdxl", SDXL, rounds=1) if full else rows
