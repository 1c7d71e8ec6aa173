"""OVAM 0.0.1: maps of texts that were not the prompt, and the losses of its token optimisation.

OVAM sums over calls, heads and layers, leaves the middle block out, enlarges bilinearly, and by
default reads the unconditional rows; here these are choices.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from conftest import HERE, STEPS, Stored

from diffusers_rdaam import (
    Attribution,
    MapRecipe,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    optimize_token,
    query_maps,
)
from diffusers_rdaam.explain.encode import encoded

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


@cache
def stored() -> Stored:
    return Stored.load("ovam_p0_simple")


@cache
def pipeline(precision: str) -> Any:
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(
        HERE.parent / "data" / "tiny_sd", safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.set_attn_processor(
        RDAAMProcessor(keep="queries", keep_negative=True, query_precision=precision)
    )
    latents = Stored.load("init").tensors["latents"]
    prompt = stored().facts["prompt"]
    pipe(prompt, latents=latents, num_inference_steps=STEPS, guidance_scale=7.5)
    return pipe


def without_middle(attribution: Attribution) -> Attribution:
    assert attribution.queries is not None
    return attribution.with_queries(attribution.queries.select(layers=["up_blocks", "down_blocks"]))


def maps(attribution: Attribution, text: Any, precision: str, **stages: Any) -> torch.Tensor:
    recipe = MapRecipe(**(THEIRS | stages))
    return query_maps(pipeline(precision), attribution, text, recipe=recipe)[:, ::4, ::4]


def text(number: int) -> str:
    return json.loads(stored().facts["texts"])[str(number)]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_texts_over_the_unconditional_rows(precision, number, close):
    negative = without_middle(pipeline(precision).attribution.negative)
    ours = maps(negative, text(number), precision)
    close(ours, stored().tensors[f"att{number}.default"])


@pytest.mark.parametrize("name", OTHER)
def test_other_stages(name, close):
    negative = without_middle(pipeline("fp32").attribution.negative)
    close(maps(negative, text(0), "fp32", **OTHER[name]), stored().tensors[name])


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_conditional_rows_and_the_middle_block(precision, close):
    attribution = pipeline(precision).attribution
    close(
        maps(without_middle(attribution), text(0), precision), stored().tensors["cond.att0.default"]
    )
    close(maps(attribution.negative, text(0), precision), stored().tensors["mid.att0.default"])


def test_without_special_tokens_these_do_not_compete(close):
    negative = without_middle(pipeline("fp32").attribution.negative)
    with torch.no_grad():
        words = encoded(pipeline("fp32"), text(0)).embedding[1:-1]
    close(maps(negative, words, "fp32"), stored().tensors["att0.no_special"])


def test_a_token_in_the_context_of_a_sentence(close):
    pipe, tensors = pipeline("fp32"), stored().tensors
    with torch.no_grad():
        in_context = encoded(pipe, "cat", context=stored().facts["prompt"])
    close(in_context.embedding, tensors["encode_text_context"])
    negative = without_middle(pipe.attribution.negative)
    wanted = tensors["att_from_embedding"]
    close(maps(negative, tensors["encode_text_context"], "fp32"), wanted)
    close(maps(negative, in_context, "fp32"), wanted)


@pytest.mark.parametrize("name", ["minmax_lr1", "minmax_lr100", "tokennorm_lr1"])
def test_the_losses_of_token_optimisation(name):
    theirs = json.loads(stored().facts["optimizations"])[f"opt.{name}"]
    # Their flag is compared by type: 3720 is an int, and means what True means.
    scaling = "min-max" if theirs["apply_min_max"] else "tokens"
    mask = stored().tensors["opt.target"].float().repeat_interleave(8, 0).repeat_interleave(8, 1)
    token = optimize_token(
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
    losses = stored().tensors[f"opt.{name}.losses"]
    ours = torch.tensor(token.losses, dtype=torch.float64)
    assert len(losses) == 30 and losses[-1] < losses[0]
    torch.testing.assert_close(ours, losses, rtol=1e-5, atol=0)
    assert token.loss == min(token.losses) and token.best == int(losses.argmin())
