"""How near the fused kernel's output is to stock attention, and the images of each backend.

The fused kernel computes attention itself. Its output is held against what two of torch's own
kernels differ by, on the same queries, keys and values; and final latents of a pipeline likewise.
Where there is no CUDA device Triton's interpreter runs the kernel, in a process of its own: the
same operations one by one, but not the tensor cores' rounding.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.report import Row, equality, judged
from benchmarks.sizes import TINY_PIPELINE, TOKENS
from diffusers_rdaam import RDAAMProcessor, StableDiffusionRDAAMPipeline

SEEDS = 4
# Standard deviation of queries and keys; that of a logit is about its square.
SIZES = (0.5, 1.5, 3.0)
STEPS = 4


def run(*, full: bool = False, device: str = "cpu") -> list[Row]:
    """Distances of outputs for each type; then the images."""
    if importlib.util.find_spec("triton") is None:
        return [Row("backends", "the fused kernel", "Triton is not installed", status="SKIP")]
    if device == "cpu":
        # Triton is one or the other from its first import on.
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env=os.environ | {"TRITON_INTERPRET": "1"},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [Row(**json.loads(line)) for line in done.stdout.splitlines()]
    return _here(device)


def _here(device: str) -> list[Row]:
    types = [torch.float32, torch.float16]
    if device != "cpu":
        types.append(torch.bfloat16)
    return [*(_outputs(dtype, device) for dtype in types), *_images(device)]


def _outputs(dtype: torch.dtype, device: str) -> Row:
    """Root mean squares over the sizes of logits, each the mean of several draws."""
    texts, met = [], True
    for size in SIZES:
        ours, other = zip(
            *(_distances(seed, size, dtype, device) for seed in range(SEEDS)), strict=True
        )
        mine, theirs = statistics.mean(ours), statistics.mean(other)
        texts.append(f"{mine:.1e} (two stock kernels {theirs:.1e}) at {size:g}")
        met = met and mine <= theirs
    name = str(dtype).removeprefix("torch.")
    what = (
        f"fused output to stock, {name}, root mean square, 2 rows, 8 heads of 40, 256 positions, "
        f"{TOKENS} tokens; queries and keys of three sizes"
    )
    goal = "no more than stock kernels to each other"
    return judged("backends", what, "; ".join(texts), goal, met, deterministic=True)


def _distances(seed: int, size: float, dtype: torch.dtype, device: str) -> tuple[float, float]:
    from diffusers_rdaam.kernels import fused

    generator = torch.Generator().manual_seed(seed)

    def draw(count: int, size: float) -> Tensor:
        drawn = torch.randn(2, count, 8, 40, generator=generator) * size
        return drawn.to(device, dtype).transpose(1, 2)

    query, key, value = draw(256, size), draw(TOKENS, size), draw(TOKENS, 1.0)
    high = torch.zeros(1, TOKENS, 256, dtype=torch.float16, device=device)
    low = torch.zeros_like(high)
    ours = fused.attend(query, key, value, high, low, first=1, scale=40**-0.5)
    stock = F.scaled_dot_product_attention(query, key, value)
    with sdpa_kernel(SDPBackend.MATH):
        other = F.scaled_dot_product_attention(query, key, value)
    return _distance(ours, stock), _distance(other, stock)


def _distance(one: Tensor, two: Tensor) -> float:
    return float((one.double() - two.double()).square().mean().sqrt())


def _images(device: str) -> list[Row]:
    """Final latents of each backend against the stock pipeline's."""
    stock = _load(StableDiffusionPipeline, device)
    wanted = _latents(stock)
    with sdpa_kernel(SDPBackend.MATH):
        other = _latents(stock)
    rows = []
    for backend in ("portable", "maps_only", "auto"):
        found, used = _recorded(backend, device)
        what = f"final latents after {STEPS} steps, backend={backend!r} (took {used})"
        rows.append(equality("backends", what, torch.equal(found, wanted)))
    found, used = _recorded("fused", device)
    measured = (
        f"{float((found - wanted).abs().max()):.1e} at most; stock with another kernel "
        f"{float((other - wanted).abs().max()):.1e}; latents up to {float(wanted.abs().max()):.1f}"
    )
    what = f"final latents after {STEPS} steps to stock, backend='fused' (took {used}), fp32"
    return [*rows, Row("backends", what, measured)]


def _recorded(backend: Any, device: str) -> tuple[Tensor, str]:
    pipe = _load(StableDiffusionRDAAMPipeline, device)
    pipe.set_attn_processor(RDAAMProcessor(backend=backend))
    latents = _latents(pipe)
    used = {
        processor.used.name
        for processor in pipe.unet.attn_processors.values()
        if getattr(processor, "used", None) is not None
    }
    return latents, " and ".join(sorted(used))


def _load(cls: Any, device: str) -> Any:
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    pipe = cls.from_pretrained(TINY_PIPELINE).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _latents(pipe: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipe(
            "a cat in a red hat",
            height=64,
            width=96,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(11),
            output_type="latent",
        ).images


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in _here("cpu"):
        print(json.dumps(asdict(row)))
