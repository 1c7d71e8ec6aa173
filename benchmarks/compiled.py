"""A UNet under torch.compile, recording: graphs, breaks, recompilations, equal results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch._dynamo.utils import counters

from benchmarks.report import Row, judged
from benchmarks.sizes import TINY_PIPELINE
from diffusers_rdaam import RDAAMProcessor, StableDiffusionRDAAMPipeline

STEPS = 3
# Height and width in pixels. Latents of 20 x 24 and 28 x 36: even, because diffusers' UNet itself
# branches where the latent's size is no multiple of what it halves.
SIZES = ((160, 192), (224, 288))
# Sizes of the runs of a pipeline: the same again, another, back to the first.
RUNS = (0, 0, 0, 1, 1, 0)
GOAL = 1e-6


def run(*, full: bool = False) -> list[Row]:
    """Fixed sizes with ``aot_eager``; with ``full`` also dynamic ones, and ``inductor``."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    eager = _runs(_pipeline(StableDiffusionRDAAMPipeline)).outputs
    rows = _rows("aot_eager", dynamic=False, eager=eager)
    if full:
        rows += _rows("aot_eager", dynamic=True, eager=eager)
        for dynamic in (False, True):
            if shutil.which("g++") or shutil.which("clang++"):
                rows += _rows("inductor", dynamic=dynamic, eager=eager)
            else:
                what = _what("inductor", dynamic)
                rows.append(Row("compile", what, "no C++ compiler", status="SKIP"))
    return rows


@dataclass(frozen=True)
class _Runs:
    """What the runs of one pipeline put out and took.

    Args:
        outputs: one a run.
        graphs: captured in all.
        late: captured at steps that were not the first at their size.
        breaks: of graphs; ``fullgraph`` would raise.
    """

    outputs: tuple[Any, ...]
    graphs: int
    late: int
    breaks: int


def _rows(backend: str, *, dynamic: bool, eager: tuple[Any, ...]) -> list[Row]:
    stock = _compiled(_pipeline(StableDiffusionPipeline), backend, dynamic)
    recorded = _compiled(_pipeline(StableDiffusionRDAAMPipeline), backend, dynamic)
    pairs = list(zip(recorded.outputs, stock.outputs, strict=True))
    equal = sum(torch.equal(ours.images, theirs.images) for ours, theirs in pairs)
    error = max(
        float((mine.maps - other.maps).abs().max())
        for ours, theirs in zip(recorded.outputs, eager, strict=True)
        for mine, other in zip(ours.attribution.grids, theirs.attribution.grids, strict=True)
    )
    what = _what(backend, dynamic)
    counted = (
        f"{recorded.breaks} breaks, {recorded.late} recompilations (stock {stock.breaks}, "
        f"{stock.late})"
    )
    cells = [
        (
            f"{what}: graphs",
            f"recorded {recorded.graphs}, stock {stock.graphs}",
            "no more than stock",
            recorded.graphs <= stock.graphs,
        ),
        (
            f"{what}: graph breaks; recompilations from step to step and from run to run",
            counted,
            "0 and 0",
            recorded.breaks == recorded.late == 0,
        ),
        (
            f"{what}: latents against compiled stock",
            f"{equal} of {len(pairs)} equal",
            "equal in every bit",
            equal == len(pairs),
        ),
        (
            f"{what}: maps against those without compilation",
            f"different by {error:.1e}",
            f"at most {GOAL:.0e}",
            error <= GOAL,
        ),
    ]
    return [judged("compile", *cell, deterministic=True) for cell in cells]


def _what(backend: str, dynamic: bool) -> str:
    sizes = "dynamic" if dynamic else "fixed"
    return f"fullgraph, {backend}, {sizes} sizes, {len(RUNS)} runs of {STEPS} steps at 2 sizes"


def _pipeline(cls: Any) -> Any:
    """The tests' tiny pipeline with a UNet of two levels, four sites, that compiles in seconds."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
    ).eval()
    # Random weights attend to all tokens alike; maps of one level could not differ.
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
                weight.mul_(4)
    pipe = cls.from_pretrained(TINY_PIPELINE, dtype=torch.float32, unet=unet)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _compiled(pipe: Any, backend: str, dynamic: bool) -> _Runs:
    if isinstance(pipe, StableDiffusionRDAAMPipeline):
        pipe.set_attn_processor(RDAAMProcessor())
    torch._dynamo.reset()
    counters.clear()
    pipe.unet = torch.compile(pipe.unet, backend=backend, fullgraph=True, dynamic=dynamic)
    try:
        return _runs(pipe)
    finally:
        torch._dynamo.reset()
        counters.clear()


def _runs(pipe: Any) -> _Runs:
    outputs, late, seen = [], 0, set()
    for size in RUNS:
        graphs: list[int] = []

        def note(
            pipe: Any, step: int, timestep: Any, values: dict[str, Any], into: list[int] = graphs
        ) -> dict[str, Any]:
            into.append(_graphs())
            return values

        before = _graphs()
        height, width = SIZES[size]
        outputs.append(
            pipe(
                "a cat in a red hat",
                height=height,
                width=width,
                num_inference_steps=STEPS,
                generator=torch.Generator().manual_seed(11),
                output_type="latent",
                callback_on_step_end=note,
            )
        )
        late += graphs[-1] - (before if size in seen else graphs[0])
        seen.add(size)
    return _Runs(tuple(outputs), _graphs(), late, sum(counters["graph_break"].values()))


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])
