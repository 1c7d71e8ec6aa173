"""CPU time that recording adds to a UNet call of Stable Diffusion 1.5's size."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from benchmarks.report import Row, equality, judged
from benchmarks.sizes import SD15, TOKENS, Model, fill_with_noise, site_grids, unet_without_memory
from benchmarks.timing import Sample, interleaved
from benchmarks.whole_unet import ROWS, whole_unet
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator, shape_of

ROUNDS = 9
FULL_ROUNDS = 9
GOAL_SECONDS = 0.1
# Of a whole UNet call.
GOAL_RATIO = 1.005

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/recording/test_accumulator.py",
    "tests/attention/test_processor.py",
)


def run(*, full: bool = False) -> list[Row]:
    """The 16 attention modules alone; with ``full`` the whole UNet too (4 GB, minutes)."""
    rows = modules("recording_cost", SD15, goal=GOAL_SECONDS)
    if full:
        rows += whole_unet("recording_cost", SD15, rounds=FULL_ROUNDS, goal=GOAL_RATIO)
    return rows


def modules(
    benchmark: str, model: Model, *, goal: float | None = None, alike: bool = False
) -> list[Row]:
    """What recording adds in the text cross-attention modules of a UNet at full width.

    Args:
        benchmark: the rows' name.
        model: whose modules.
        goal: seconds that recording may add to a UNet call.
        alike: measure one module of each shape and count it as often as the UNet has it, where
            all of them would take gigabytes and minutes.
    """
    unet = unet_without_memory(model)
    grids = site_grids(unet, model.latent)
    sites = UNetFamily().sites(unet)
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=TOKENS, grids=grids))
    # In these models modules of one grid are of one shape, and those of one shape on one grid.
    levels: dict[tuple[int, int], list[Site]] = {}
    for site in sites:
        levels.setdefault(grids[site.name], []).append(site)
    stock, recorded, inside = [], [], []
    rows, equal = [], True
    with torch.no_grad():
        for grid, members in levels.items():
            built = [_Module(site, grid, accumulator) for site in members[: 1 if alike else None]]
            each = len(members) // len(built)
            equal = equal and all(module.outputs_equal() for module in built)
            calls = {"stock": partial(_stock, built), "recorded": partial(_recorded, built)}
            taken = interleaved(calls, rounds=ROUNDS)
            stock.append(taken["stock"].times(each))
            recorded.append(taken["recorded"].times(each))
            inside.append(Sample(tuple(_recorded(built) for _ in range(ROUNDS))).times(each))
            what = f"of this, the {len(members)} at {grid[1]}x{grid[0]}"
            rows.append(Row(benchmark, what, inside[-1].text()))
    added = _added(benchmark, model, len(sites), _sum(stock), _sum(recorded), goal, alike)
    return [
        added,
        Row(benchmark, "the same, clocked around the kernel alone", _sum(inside).text()),
        *rows,
        equality(benchmark, "outputs of these modules, recorded against stock", equal),
    ]


def _added(
    benchmark: str,
    model: Model,
    sites: int,
    stock: Sample,
    recorded: Sample,
    goal: float | None,
    alike: bool,
) -> Row:
    extra = recorded.minus(stock)
    height, width = model.latent
    counted = "; one module of each shape, counted as often as it occurs" if alike else ""
    what = (
        f"extra CPU time of a UNet call in the {sites} attn2 modules of {model.name} "
        f"({width}x{height} latent, {ROWS} rows of which 1 is recorded, {TOKENS} tokens, fp32, "
        f"random weights{counted})"
    )
    ratio, low, high = recorded.over(stock)
    base = stock.text("s" if stock.median > 1 else "ms")
    measured = f"{extra.text()} on {base} stock, ratio {ratio:.3f} ({low:.3f} to {high:.3f})"
    if goal is None:
        return Row(benchmark, what, measured)
    return judged(
        benchmark, what, measured, f"median at most {goal * 1e3:g} ms", extra.median <= goal
    )


def _stock(modules: list[_Module]) -> None:
    for module in modules:
        module.stock()


def _recorded(modules: list[_Module]) -> float:
    """Call all; CPU seconds inside the kernel."""
    before = sum(module.kernel_seconds for module in modules)
    for module in modules:
        module.recorded()
    return sum(module.kernel_seconds for module in modules) - before


class _Module:
    """One attention module at full size with an input, called with either processor."""

    def __init__(self, site: Site, grid: tuple[int, int], accumulator: HeatMapAccumulator) -> None:
        self._attention = fill_with_noise(site.module)
        pixels, width = grid[0] * grid[1], self._attention.to_q.in_features
        self._states = torch.randn(ROWS, pixels, width)
        self._text = torch.randn(ROWS, TOKENS, self._attention.to_k.in_features)
        self._stock = AttnProcessor2_0()
        self._recorded = RDAAMProcessor().bind(site.name)
        self.kernel_seconds = 0.0
        kernel = choose("auto", device=torch.device("cpu")).accumulate

        def accumulate(*arguments: Any, **options: Any) -> None:
            start = time.thread_time()
            kernel(*arguments, **options)
            self.kernel_seconds += time.thread_time() - start

        high, low = accumulator.planes(site.name)
        branch = BranchTarget(high, low, accumulator.count(site.name), ROWS - 1, ROWS)
        self._recorded.target = Target(site.name, (branch,), accumulate)

    def stock(self) -> Tensor:
        self._attention.processor = self._stock
        return self._attention(self._states, self._text)

    def recorded(self) -> Tensor:
        self._attention.processor = self._recorded
        return self._attention(self._states, self._text)

    def outputs_equal(self) -> bool:
        return torch.equal(self.stock(), self.recorded())


def _sum(samples: list[Sample]) -> Sample:
    return Sample(tuple(map(sum, zip(*(sample.seconds for sample in samples), strict=True))))
