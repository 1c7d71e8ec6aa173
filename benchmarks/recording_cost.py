"""CPU time that recording adds to a UNet call of Stable Diffusion 1.5's size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from benchmarks.report import Row, judged
from benchmarks.sizes import (
    LATENT,
    TEXT_WIDTH,
    TOKENS,
    fill_with_noise,
    site_grids,
    unet_without_memory,
)
from benchmarks.timing import Sample, interleaved
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.accumulator import HeatMapAccumulator, shape_of
from diffusers_rdaam.recording.families.unet import UNetFamily
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.sites import Site, install
from diffusers_rdaam.recording.target import Branch, Target

ROUNDS = 9
FULL_ROUNDS = 3
GOAL_SECONDS = 0.1
# The rows of a guided call: unconditional, conditional.
ROWS = 2


def run(*, full: bool = False) -> list[Row]:
    """The 16 attention modules alone; with ``full`` the whole UNet too (4 GB, minutes)."""
    rows = _modules()
    return rows + _whole_unet() if full else rows


def _modules() -> list[Row]:
    unet = unet_without_memory()
    grids = site_grids(unet)
    sites = UNetFamily().sites(unet)
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=TOKENS, grids=grids))
    levels: dict[tuple[int, int], list[_Module]] = {}
    for site in sites:
        levels.setdefault(grids[site.name], []).append(_Module(site, grids[site.name], accumulator))
    stock, recorded, inside = [], [], []
    rows, equal = [], True
    with torch.no_grad():
        for (height, width), modules in levels.items():
            equal = equal and all(module.outputs_equal() for module in modules)
            calls = {"stock": partial(_stock, modules), "recorded": partial(_recorded, modules)}
            taken = interleaved(calls, rounds=ROUNDS)
            stock.append(taken["stock"])
            recorded.append(taken["recorded"])
            inside.append(Sample(tuple(_recorded(modules) for _ in range(ROUNDS))))
            what = f"of this, the {len(modules)} at {width}x{height}"
            rows.append(Row("recording_cost", what, inside[-1].text()))
    extra = _sum(recorded).minus(_sum(stock))
    what = (
        f"extra CPU time of a UNet call in the {len(sites)} attn2 modules of SD1.5 (64x64 latent, "
        "2 rows of which 1 is recorded, 77 tokens, fp32, random weights)"
    )
    goal = f"median at most {GOAL_SECONDS * 1e3:g} ms"
    measured = f"{extra.text()} on {_sum(stock).text()} stock"
    return [
        judged("recording_cost", what, measured, goal, extra.median <= GOAL_SECONDS),
        Row("recording_cost", "the same, clocked around the kernel alone", _sum(inside).text()),
        *rows,
        judged(
            "recording_cost",
            "outputs of these modules, recorded against stock",
            "equal" if equal else "different",
            "equal in every bit",
            equal,
            deterministic=True,
        ),
    ]


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
        self._text = torch.randn(ROWS, TOKENS, TEXT_WIDTH)
        self._stock = AttnProcessor2_0()
        self._recorded = RDAAMProcessor().bind(site.name)
        self.kernel_seconds = 0.0
        kernel = choose("auto", device=torch.device("cpu")).accumulate

        def accumulate(*arguments: Any, **options: Any) -> None:
            start = time.thread_time()
            kernel(*arguments, **options)
            self.kernel_seconds += time.thread_time() - start

        high, low = accumulator.planes(site.name)
        branch = Branch(high, low, accumulator.count(site.name), ROWS - 1, ROWS)
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


def _whole_unet() -> list[Row]:
    unet = fill_with_noise(unet_without_memory())
    family, template = UNetFamily(), RDAAMProcessor()
    install(family.sites(unet), template)
    pipe = SimpleNamespace(unet=unet, do_classifier_free_guidance=True, _num_timesteps=FULL_ROUNDS)
    latent = torch.randn(ROWS, 4, *LATENT)
    text = torch.randn(ROWS, TOKENS, TEXT_WIDTH)
    outputs: dict[str, Tensor] = {}

    def stock() -> None:
        with _stock_processors(family.sites(unet)):
            outputs["stock"] = unet(latent, 500, encoder_hidden_states=text).sample

    def recorded() -> None:
        with Recorder(pipe, family, template):
            outputs["recorded"] = unet(latent, 500, encoder_hidden_states=text).sample

    with torch.no_grad():
        # No warm-up: a call takes long enough to drown what only the first one pays.
        taken = interleaved(
            {"stock": stock, "recorded": recorded}, rounds=FULL_ROUNDS, warm_up=False
        )
    parameters = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    ratio, low, high = taken["recorded"].over(taken["stock"])
    what = f"whole UNet call, {parameters:.0f} million parameters, same input, {FULL_ROUNDS} rounds"
    measured = (
        f"stock {taken['stock'].text('s')}, recorded {taken['recorded'].text('s')}, ratio "
        f"{ratio:.3f} ({low:.3f} to {high:.3f})"
    )
    equal = torch.equal(outputs["stock"], outputs["recorded"])
    return [
        Row("recording_cost", what, measured),
        judged(
            "recording_cost",
            "its output, recorded against stock",
            "equal" if equal else "different",
            "equal in every bit",
            equal,
            deterministic=True,
        ),
    ]


@contextmanager
def _stock_processors(sites: tuple[Site, ...]) -> Iterator[None]:
    before = [site.processor for site in sites]
    for site in sites:
        site.module.processor = AttnProcessor2_0()
    try:
        yield
    finally:
        for site, processor in zip(sites, before, strict=True):
            site.module.processor = processor
