"""What recording joint attention costs in blocks of FLUX's and Stable Diffusion 3's size.

The blocks are those of diffusers with random weights: as many as fit, one of each kind. What a
recorded call adds is measured by itself, because a difference of two calls of minutes would be
noise: the observer sees the queries and keys of the stock call, with the log-sum-exp that its
kernel gives, or without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.transformers.transformer_flux import (
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from torch import Tensor

from benchmarks.report import Row, equality, judged
from benchmarks.sizes import fill_with_noise
from benchmarks.timing import Sample, clock_for, interleaved
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.families import Branch, DenoiserCall, TextColumns
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.kernels.sdpa import attention_with_lse
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape, HeatMapAccumulator
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.recording.chosen_columns import ChosenColumns, with_rest
from diffusers_rdaam.recording.joint_targets import RecordedRows, joint_target

GUARDS = ("tests/attention/test_joint_target.py", "tests/kernels/test_log_sum_exp.py")
PROMPT_COLUMNS = 30
SIDE = 64  # positions along an edge of a 1024x1024 image
ROUNDS = 5
GOAL_OF_BLOCK = 0.01
GOAL_OF_ATTENTION = 0.12
GOAL_BYTES = 1.05e6
GOAL_FIRST_ANSWER = 0.020
GOAL_REGION = 0.001


@dataclass(frozen=True)
class Shape:
    """A block: its name, its width, its heads, and how it is made and called."""

    name: str
    width: int
    heads: int
    columns: int
    block: Callable[[], torch.nn.Module]
    call: Callable[[torch.nn.Module, Tensor, Tensor, Tensor], object]
    image_first: bool = False


def _flux(block: Any, image: Tensor, text: Tensor, temb: Tensor) -> object:
    return block(hidden_states=image, encoder_hidden_states=text, temb=temb)


SHAPES = (
    Shape("FLUX double", 3072, 24, 512, lambda: FluxTransformerBlock(3072, 24, 128), _flux),
    Shape("FLUX single", 3072, 24, 512, lambda: FluxSingleTransformerBlock(3072, 24, 128), _flux),
    Shape(
        "SD3 joint",
        1536,
        24,
        333,
        lambda: JointTransformerBlock(1536, 24, 64, qk_norm="rms_norm"),
        _flux,
        image_first=True,
    ),
)


def run(*, full: bool = False) -> list[Row]:
    """Rows of each block in float32, and with ``full`` in bfloat16; bytes; times of answers."""
    rows = []
    for shape in SHAPES:
        rows += _block_rows(shape, torch.float32)
        if full:
            rows += _block_rows(shape, torch.bfloat16)
    return [*rows, *_kept_rows(), *_answer_rows(), _peer_row()]


def rows_on(device: str, dtype: torch.dtype = torch.bfloat16) -> list[Row]:
    """The rows of each block on a device, with the kernel that is chosen there."""
    return [row for shape in SHAPES for row in _block_rows(shape, dtype, device)]


def _block_rows(shape: Shape, dtype: torch.dtype, device: str = "cpu") -> list[Row]:
    """Extra time of a recorded call over the stock one."""
    clock = clock_for(device)
    name = f"{shape.name}, {shape.width} wide, {SIDE**2}+{shape.columns} tokens, {_short(dtype)}"
    with torch.device("meta"):
        block = shape.block()
    block = fill_with_noise(block, device).to(dtype)
    generator = torch.Generator().manual_seed(0)
    image, text, temb = (
        torch.randn(1, count, shape.width, generator=generator).to(device, dtype)
        for count in (SIDE**2, shape.columns, 1)
    )
    with torch.no_grad():
        whole = clock.seconds(partial(shape.call, block, image, text, temb[:, 0]))
        inputs = _attention_inputs(shape, dtype, generator)
        query, key, value = (one.to(device) for one in inputs)
        output, lse = attention_with_lse(query, key, value)
        same = torch.equal(
            output, torch.nn.functional.scaled_dot_product_attention(query, key, value)
        )
        call = AttentionCall(query, key, value, None, query.shape[-1] ** -0.5, output, lse)
        tiles = call._replace(lse=None)
        targets = {
            count: _target(shape, count, device) for count in (PROMPT_COLUMNS, shape.columns)
        }
        candidates = {
            "stock": partial(torch.nn.functional.scaled_dot_product_attention, query, key, value),
            "prompt": partial(targets[PROMPT_COLUMNS].see, call),
            "all": partial(targets[shape.columns].see, call),
            "tiles": partial(targets[PROMPT_COLUMNS].see, tiles),
        }
        taken = interleaved(candidates, rounds=ROUNDS, clock=clock)
    return [
        equality("joint", f"{name}: output with the kernel's log-sum-exp, and stock", same),
        Row("joint", f"{name}: the block, one call", f"{whole:.3g} s"),
        Row("joint", f"{name}: its attention", taken["stock"].text()),
        _ratio(f"{name}: recording {PROMPT_COLUMNS} columns", taken["prompt"], whole),
        _of_attention(f"{name}: recording all {shape.columns} columns", taken),
        Row(
            "joint",
            f"{name}: recording {PROMPT_COLUMNS} columns, log-sum-exp formed in tiles",
            f"{taken['tiles'].text()}, {taken['tiles'].median / whole:.1%} of the block",
        ),
    ]


def _ratio(what: str, taken: Sample, whole: float) -> Row:
    share = taken.median / whole
    measured = f"{taken.text()}, {share:.2%} of the block"
    return judged("joint", what, measured, f"<= {GOAL_OF_BLOCK:.0%}", share <= GOAL_OF_BLOCK)


def _of_attention(what: str, taken: dict[str, Sample]) -> Row:
    share = taken["all"].over(taken["stock"])[0]
    measured = f"{taken['all'].text()}, {share:.1%} of the attention"
    goal = f"<= {GOAL_OF_ATTENTION:.0%}"
    return judged("joint", what, measured, goal, share <= GOAL_OF_ATTENTION)


def _attention_inputs(
    shape: Shape, dtype: torch.dtype, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all tokens, laid out as the processors have them."""
    size = (1, SIDE**2 + shape.columns, shape.heads, shape.width // shape.heads)
    query, key, value = (
        torch.randn(size, generator=generator).to(dtype).transpose(1, 2) for _ in range(3)
    )
    return query, key, value


def _target(shape: Shape, count: int, device: str) -> Any:
    """The target of one site that records ``count`` columns."""
    buffers = HeatMapAccumulator(_planes(count, ("double",), device))
    layout = (
        JointLayout.image_first(1, SIDE**2)
        if shape.image_first
        else JointLayout.text_first(1, shape.columns)
    )
    call = DenoiserCall(
        grid=(SIDE, SIDE),
        texts=(TextColumns("text_encoder", 0, shape.columns),),
        branches={Branch.CONDITIONAL: (0, 1)},
        device=torch.device(device),
        rows=1,
        joint=layout,
    )
    site = buffers.shape.grids[0][0]
    high, low = buffers.planes(site)
    rows = RecordedRows(high, low, buffers.count(site), 0, 1)
    chosen = [[ChosenColumns(tuple(range(count)))]]
    return joint_target(site, [rows], choose("auto", device=torch.device(device)), call, chosen)


def _planes(count: int, streams: tuple[str, ...], device: str = "cpu") -> AccumulatorShape:
    return AccumulatorShape(
        images=1,
        tokens=count,
        grids=tuple((f"{stream}.0.attn", (SIDE, SIDE)) for stream in streams),
        pair=True,
        device=torch.device(device),
        streams=streams,
    )


def _kept_rows() -> list[Row]:
    """Bytes that a FLUX run keeps of an image, after 1, 10 and 28 steps."""
    buffers = HeatMapAccumulator(_planes(PROMPT_COLUMNS, ("double", "single")))
    seen = []
    for step in range(1, 29):
        buffers.make_room()
        for site, _ in buffers.shape.grids:
            buffers.add(site, torch.full((1, PROMPT_COLUMNS, SIDE**2), 1e-3))
        if step in (1, 10, 28):
            seen.append(buffers.nbytes)
    measured = ", ".join(f"{size / 1e6:.3f} MB" for size in seen)
    met = len(set(seen)) == 1 and seen[0] <= GOAL_BYTES
    what = f"FLUX, {PROMPT_COLUMNS} columns, both streams: kept after 1, 10 and 28 steps"
    goal = f"<= {GOAL_BYTES / 1e6:g} MB, constant"
    return [judged("joint", what, measured, goal, met, deterministic=True)]


def _answer_rows() -> list[Row]:
    """From the end of a run to its first answer, and what a region takes."""
    buffers = HeatMapAccumulator(_planes(PROMPT_COLUMNS, ("double", "single")))
    for site, _ in buffers.shape.grids:
        buffers.add(site, torch.rand(1, PROMPT_COLUMNS, SIDE**2) / PROMPT_COLUMNS)
    text = " ".join(f"w{index}" for index in range(PROMPT_COLUMNS))
    spans, start = [], 0
    for word in text.split():
        spans.append((start, start + len(word)))
        start += len(word) + 1
    tokens = [Token(i, text[a:b], "text", a, b) for i, (a, b) in enumerate(spans)]
    prompt = Prompt(text, (*tokens, Token(PROMPT_COLUMNS, "(rest)", "rest")))
    box = (100, 200, 600, 900)

    def first() -> object:
        maps = with_rest(_image_maps(buffers), PROMPT_COLUMNS)
        return Attribution(prompt, maps.grids, (1024, 1024)).region(box).words[0]

    attribution = Attribution(
        prompt, with_rest(_image_maps(buffers), PROMPT_COLUMNS).grids, (1024, 1024)
    )
    taken = interleaved(
        {"first": first, "region": lambda: attribution.region(box)}, rounds=2 * ROUNDS + 1
    )
    answer, region = taken["first"], taken["region"]
    return [
        judged(
            "joint",
            "FLUX: end of the run to the words of a box",
            answer.text(),
            f"<= {GOAL_FIRST_ANSWER * 1e3:g} ms",
            answer.median <= GOAL_FIRST_ANSWER,
        ),
        judged(
            "joint",
            "FLUX: region(box)",
            region.text(),
            f"<= {GOAL_REGION * 1e3:g} ms",
            region.median <= GOAL_REGION,
        ),
    ]


def _image_maps(buffers: HeatMapAccumulator) -> Any:
    return ImageMaps(buffers.read()[0])


def _peer_row() -> Row:
    """What attention-map-diffusers would keep of a FLUX image: arithmetic, because its FLUX path
    raises on current diffusers.
    """
    # Each of the 19 double blocks, 28 steps and 24 heads, in half precision.
    kept = 19 * 28 * 24 * SIDE**2 * 512 * 2
    what = "attention-map-diffusers on FLUX, 28 steps: would keep (its FLUX path does not run)"
    return Row("joint", what, f"{kept / 1e9:.3g} GB", status="SKIP")


def _short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
