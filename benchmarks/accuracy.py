"""The half-precision sums against float64 sums of the same maps, at 50 and at 1000 steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.report import Row, judged
from benchmarks.sizes import TOKENS
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator, shape_of

GRID = (32, 32)
SITES = 5
STEPS = (50, 1000)
GOAL = 1e-4
# Below, a probability says nothing that a relative error could matter for.
SMALLEST = 1e-5


def run(*, full: bool = False) -> list[Row]:
    """One stream of maps into a pair of planes, a single plane, and float64."""
    grids = {f"site {index}": GRID for index in range(SITES)}
    pair = HeatMapAccumulator(shape_of(images=1, tokens=TOKENS, grids=grids))
    single = HeatMapAccumulator(shape_of(images=1, tokens=TOKENS, grids=grids, pair=False))
    oracle = torch.zeros(TOKENS, GRID[0] * GRID[1], dtype=torch.float64)
    maps = _Maps()
    rows = []
    for step in range(1, max(STEPS) + 1):
        for site in grids:
            addend = maps.draw(step)
            pair.add(site, addend)
            single.add(site, addend)
            oracle += addend[0]
        if step in STEPS:
            rows += _rows(step, oracle / (step * SITES), pair, single)
    return rows


class _Maps:
    """Softmaxed maps: a smooth part that drifts with the steps, a level per token, and noise."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(3)
        self._early, self._late = self._smooth(), self._smooth()
        self._level = torch.randn(TOKENS, 1, generator=self._generator)
        # The start token draws most of the attention in every text-to-image model.
        self._level[0] += 6.0

    def _smooth(self) -> Tensor:
        coarse = torch.randn(1, TOKENS, 4, 4, generator=self._generator) * 1.5
        return F.interpolate(coarse, size=GRID, mode="bicubic")[0].flatten(1)

    def draw(self, step: int) -> Tensor:
        """Maps ``(1, tokens, pixels)`` of one site in one step."""
        late = step / max(STEPS)
        noise = torch.randn(TOKENS, GRID[0] * GRID[1], generator=self._generator) * 0.5
        logits = (1 - late) * self._early + late * self._late + self._level + noise
        return torch.softmax(logits, dim=0)[None]


def _rows(
    steps: int, mean: Tensor, pair: HeatMapAccumulator, single: HeatMapAccumulator
) -> list[Row]:
    worst, average = _relative_error(pair, mean)
    what = f"fp16 pair against float64, {steps} steps x {SITES} sites, {TOKENS} tokens, 32x32"
    measured = f"relative error {worst:.1e} at most, {average:.1e} on average"
    goal = f"at most {GOAL:.0e}"
    rows = [judged("accuracy", what, measured, goal, worst <= GOAL, deterministic=True)]
    worst, average = _relative_error(single, mean)
    measured = f"relative error {worst:.1e} at most, {average:.1e} on average"
    return [*rows, Row("accuracy", f"single fp16 plane, same maps, {steps} steps", measured)]


def _relative_error(accumulator: HeatMapAccumulator, mean: Tensor) -> tuple[float, float]:
    ((grid,),) = accumulator.read()
    read = grid.maps.double().flatten(1)
    counted = mean >= SMALLEST
    errors = ((read - mean).abs() / mean)[counted]
    return float(errors.max()), float(errors.mean())
