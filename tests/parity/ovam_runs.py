"""Our runs of what OVAM 0.0.1 was run with, and its stored results."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from diffusers_rdaam import (
    Attribution,
    MapRecipe,
    OptimizedToken,
    QueryOptions,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    optimize_token,
    text_maps,
)

DATA = Path(__file__).parent / "data"
STEPS = 4


class Stored(NamedTuple):
    tensors: dict[str, torch.Tensor]
    facts: dict[str, str]


THEIRS: dict[str, Any] = {
    "over_calls": "sum",
    "over_heads": "sum",
    "over_sites": "sum",
    "interpolation": "bilinear",
    "enlargement": "bilinear",
}
MEANS = {"over_calls": "mean", "over_heads": "mean", "over_sites": "mean"}
OTHER = {
    "att0.linear": {"activation": "linear"},
    "att0.mean": MEANS,
    "att0.blocks_bicubic": {"interpolation": "bicubic"},
    "att0.heatmaps_sigmoid": {"activation": "linear", "map_activation": "sigmoid"},
}
OPTIMIZATIONS = ("minmax_lr1", "minmax_lr100", "tokennorm_lr1")


@cache
def stored() -> Stored:
    with safe_open(DATA / "ovam_p0_simple.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Stored(tensors, dict(file.metadata() or {}))


@cache
def pipeline(precision: str) -> Any:
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(
        DATA.parents[1] / "data" / "tiny_sd", safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.set_attn_processor(
        RDAAMProcessor(
            keep="queries", keep_negative=True, queries=QueryOptions(precision=precision)
        )
    )
    latents = load_file(DATA / "init.safetensors")["latents"]
    prompt = stored().facts["prompt"]
    pipe(prompt, latents=latents, num_inference_steps=STEPS, guidance_scale=7.5)
    return pipe


def without_middle(attribution: Attribution) -> Attribution:
    assert attribution.queries is not None
    return attribution.with_queries(attribution.queries.select(layers=["up_blocks", "down_blocks"]))


def maps(attribution: Attribution, text: Any, precision: str, **stages: Any) -> torch.Tensor:
    recipe = MapRecipe(**(THEIRS | stages))
    return text_maps(pipeline(precision), attribution, text, recipe=recipe)[:, ::4, ::4]


def text(number: int) -> str:
    return json.loads(stored().facts["texts"])[str(number)]


def optimized(name: str) -> OptimizedToken:
    theirs = json.loads(stored().facts["optimizations"])[f"opt.{name}"]
    # Their flag is compared by type: 3720 is an int, and means what True means.
    scaling = "min-max" if theirs["apply_min_max"] else "tokens"
    mask = stored().tensors["opt.target"].float().repeat_interleave(8, 0).repeat_interleave(8, 1)
    return optimize_token(
        pipeline("fp32"),
        without_middle(pipeline("fp32").attribution.negative),
        mask,
        stored().tensors["opt.embedding_init"],
        iterations=theirs["epochs"],
        learning_rate=theirs["initial_lr"],
        step_size=theirs["step_size"],
        gamma=theirs["gamma"],
        scaling=scaling,
        recipe=MapRecipe(**THEIRS),
    )


def losses(name: str) -> torch.Tensor:
    return torch.tensor(optimized(name).losses, dtype=torch.float64)
