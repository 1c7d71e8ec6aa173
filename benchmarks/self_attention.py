"""Self-attention of the 64x64 grid at Stable Diffusion 1.5's size: bytes, time next to stock."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.report import Row, judged
from benchmarks.sizes import SD15, unet_without_memory
from benchmarks.timing import interleaved
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator
from diffusers_rdaam.recording.records.self_attention import self_attention_shapes

GUARDS = (
    "tests/kernels/test_portable.py",
    "tests/attribution/test_self_attention.py",
)

STEPS = 50
GOAL = 34_000_000
# What DAAM-I2I keeps for an image of 50 steps: the heads of both halves, in fp32.
DAAM_I2I = 5 * 16 * 4096**2 * 4
ROUNDS = 3
GRID = (64, 64)
BOX = (100, 100, 300, 300)


def run(*, full: bool = False) -> list[Row]:
    """One image of 50 steps; five sites have the grid."""
    unet = unet_without_memory()
    family, options = UNetFamily(), RecordingOptions(self_attention=True)
    sizes = {
        site.name: family.grid(site, SD15.latent) for site in family.self_attention_sites(unet)
    }
    places = dict.fromkeys(sizes, torch.device("cpu"))
    (shape,) = self_attention_shapes(options, sizes, 1, STEPS, 1_700_000, places=places)
    buffer = HeatMapAccumulator(shape)
    names = [name for name, _ in shape.grids]
    counts = 4 * len(names)
    right = buffer.nbytes - counts == shape.nbytes <= GOAL and shape.grids[0][1] == GRID
    return [
        judged(
            "self_attention",
            f"bytes of one {SD15.size_text} image, {STEPS} steps, the largest grid under the "
            f"budget (64x64, {len(names)} sites of 8 heads)",
            f"{buffer.nbytes:,} (DAAM-I2I {DAAM_I2I / 2**30:.1f} GiB)",
            f"at most {GOAL:,}; as reported before the run and {counts} bytes of counts",
            right,
            deterministic=True,
        ),
        *_times(unet, buffer, names),
        *_answers(),
    ]


def _times(unet: Any, buffer: HeatMapAccumulator, names: list[str]) -> list[Row]:
    modules = dict(unet.named_modules())
    inputs = {name: _query_key_value(modules[name]) for name in names}
    accumulate = choose(device=torch.device("cpu")).accumulate
    targets = {}
    for name in names:
        high, low = buffer.planes(name)
        branch = BranchTarget(high, low, buffer.count(name), 1, 2)
        targets[name] = Target(name, (branch,), accumulate, kind="self")

    def stock() -> None:
        for query, key, value in inputs.values():
            F.scaled_dot_product_attention(query, key, value)

    def record() -> None:
        for name, (query, key, _) in inputs.items():
            targets[name].see(AttentionCall(query, key, None, None, query.shape[-1] ** -0.5))

    with torch.no_grad():
        taken = interleaved({"stock": stock, "record": record}, rounds=ROUNDS)
    what = f"CPU time of a guided UNet call, {len(names)} attn1 modules of the 64x64 grid, fp32"
    ratio, low, high = taken["record"].over(taken["stock"])
    return [
        Row("self_attention", f"{what}: stock attention (2 rows)", taken["stock"].text("s")),
        Row(
            "self_attention",
            f"{what}: recording next to it (1 row)",
            f"{taken['record'].text('s')}, {ratio:.2f} times stock ({low:.2f} to {high:.2f})",
        ),
    ]


def _query_key_value(module: Any) -> list[Tensor]:
    shape = (2, math.prod(GRID), module.inner_dim)
    parts = (torch.randn(shape) for _ in range(3))
    return [part.unflatten(-1, (module.heads, -1)).transpose(1, 2) for part in parts]


def _answers() -> list[Row]:
    positions = math.prod(GRID)
    sums = torch.rand(positions, positions, dtype=torch.float16)
    own = SelfAttention((SelfGrid(sums, STEPS * 5, GRID),), SD15.image)
    # What a person has painted: no part of the grid is left out.
    guide = torch.rand(SD15.image)
    asked = {
        "box, who looks at it": lambda: own.box(BOX),
        "box, what it looks at": lambda: own.box(BOX, direction="from"),
        "guided by a map": lambda: own.guided(guide),
        "diffused from a pixel": lambda: own.diffused((200, 200)),
        "diffused from all (segments)": lambda: own.diffused(),
    }
    taken = interleaved(asked, rounds=ROUNDS)
    what = f"CPU time of an answer at {SD15.size_text} from the 64x64 grid"
    return [Row("self_attention", f"{what}: {name}", s.text()) for name, s in taken.items()]
