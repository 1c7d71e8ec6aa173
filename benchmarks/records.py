"""What may be kept separately (steps, layers, heads, the negative prompt): bytes and time."""

from __future__ import annotations

from itertools import cycle
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import bytes_kept
from benchmarks.report import Row, judged
from benchmarks.sizes import SD15, TOKENS, narrow_unet, unet_without_memory
from benchmarks.timing import Sample, interleaved
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape
from diffusers_rdaam.recording.buffers.step_accumulators import StepAccumulators
from diffusers_rdaam.recording.memory.budget import memory_cost, memory_cost_text
from diffusers_rdaam.recording.memory.shape import shape_for

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/kernels/test_heads_separately.py",
    "tests/recording/test_accumulator.py",
    "tests/recording/test_step_accumulators.py",
)

STEPS = 50
# All bytes are allocated before the first call; that none join later is seen at the second.
CALLS = (1, 2)
ROUNDS = 9
# Of a guided call, by what they are conditioned on.
ROWS = {"negative": (0, 1), "conditional": (1, 2)}

RECORDS: dict[str, dict[str, Any]] = {
    "means alone (the default)": {},
    "keep='steps'": {"keep": "steps"},
    "keep='layers'": {"keep": "layers"},
    "keep='heads'": {"keep": "heads"},
    "keep=('layers', 'heads')": {"keep": ("layers", "heads")},
    "keep_negative=True": {"keep_negative": True},
}


def run(*, full: bool = False) -> list[Row]:
    """Each at Stable Diffusion 1.5's size, one image of 50 steps."""
    templates = {name: RDAAMProcessor(**options) for name, options in RECORDS.items()}
    return _bytes(templates) + _times(templates)


def _bytes(templates: dict[str, RDAAMProcessor]) -> list[Row]:
    unet = narrow_unet()
    rows = []
    for name, template in templates.items():
        told: list[str] = []
        kept = bytes_kept(unet, SD15, CALLS, template=template, steps=STEPS, announce=told.append)
        shape, frames = _shape(unet, template), _frames(template)
        branches = 2 if template.options.keep_negative else 1
        # Every accumulator counts the additions of each site in four bytes.
        counts = 4 * len(shape.grids) * frames * branches
        # A run remembers the sums of its text's states along both axes, to see that they stay.
        sums = 8 * (TOKENS + unet.config.cross_attention_dim)
        wanted = memory_cost(template.options, shape, frames) + counts + sums
        # What every run costs is not announced.
        more = template.options.axes or template.options.keep_negative
        text = [memory_cost_text(template.options, shape, frames)] if more else []
        met = told == text and set(kept.values()) == {wanted}
        said = f"; reported before the run: {told[0]}" if told else ""
        rows.append(
            judged(
                "records",
                f"bytes of one {SD15.size_text} image, {STEPS} steps, {name}",
                f"{kept[CALLS[-1]]:,}{said}",
                f"by the package's formula: {wanted:,} ({counts:,} are counts, {sums:,} sums)",
                met,
                deterministic=True,
            )
        )
    return rows


def _times(templates: dict[str, RDAAMProcessor]) -> list[Row]:
    unet = unet_without_memory()
    inputs = _queries_and_keys(unet)
    calls = {
        name: _Call(template, _shape(unet, template), inputs)
        for name, template in templates.items()
    }
    with torch.no_grad():
        taken = interleaved(calls, rounds=ROUNDS)
    usual = taken[next(iter(templates))]
    return [
        Row(
            "records",
            f"CPU time of recording in a UNet call (its {len(inputs)} sites, kernel alone), {name}",
            _against(sample, usual),
        )
        for name, sample in taken.items()
    ]


def _against(sample: Sample, usual: Sample) -> str:
    ratio, low, high = sample.over(usual)
    if sample is usual:
        return sample.text()
    return f"{sample.text()}, {ratio:.2f} times the default ({low:.2f} to {high:.2f})"


def _queries_and_keys(unet: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each site, at full width, laid out as the processor hands them to the kernel."""
    family = UNetFamily()
    inputs = {}
    for site in family.sites(unet):
        height, width = family.grid(site, SD15.latent)
        module: Any = site.module
        rows, channels = len(ROWS), module.inner_dim
        query, key = (
            torch.randn(rows, length, channels).unflatten(-1, (module.heads, -1)).transpose(1, 2)
            for length in (height * width, TOKENS)
        )
        inputs[site.name] = (query, key)
    return inputs


class _Call:
    """What one UNet call adds to the buffers; with steps apart, every call to others."""

    def __init__(
        self,
        template: RDAAMProcessor,
        shape: AccumulatorShape,
        inputs: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        branches = ROWS if template.options.keep_negative else {"conditional": ROWS["conditional"]}
        buffers = {name: StepAccumulators(shape, _frames(template)) for name in branches}
        accumulate = choose(template.options.backend, device=torch.device("cpu")).accumulate
        frames = []
        for index in range(_frames(template)):
            targets = {}
            for site in inputs:
                parts = []
                for name, (start, stop) in branches.items():
                    buffer = buffers[name].accumulators[index]
                    high, low = buffer.planes(site)
                    parts.append(BranchTarget(high, low, buffer.count(site), start, stop))
                targets[site] = Target(site, tuple(parts), accumulate)
            frames.append(targets)
        self._inputs = inputs
        self._frames = cycle(frames)

    def __call__(self) -> None:
        for site, target in next(self._frames).items():
            query, key = self._inputs[site]
            target.see(AttentionCall(query, key, None, None, query.shape[-1] ** -0.5))


def _shape(unet: Any, template: RDAAMProcessor) -> AccumulatorShape:
    pipe = SimpleNamespace(unet=unet)
    return shape_for(template.options, UNetFamily(), pipe, SD15.latent, 1, TOKENS, device="cpu")


def _frames(template: RDAAMProcessor) -> int:
    return STEPS if "steps" in template.options.keep else 1
