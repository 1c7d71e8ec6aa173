"""Gradients of several regions on the embedded model: time and memory of the three ways.

The activations can be computed again for all regions together, or in a call for each, or be kept.
Then how far integrated gradients miss the difference that they should sum to.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.embedded_model import STABLE_DIFFUSION
from benchmarks.report import Row
from benchmarks.timing import interleaved
from diffusers_rdaam import explain_gradient
from diffusers_rdaam.demo.world import held_out_prompts

GUARDS = ("tests/explain/test_explain_gradient.py",)

ROUNDS, PLACES, PROMPTS = 3, 16, 5
# A quarter of the image each, (left, top, right, bottom) in pixels.
REGIONS = ((0, 0, 64, 64), (64, 0, 128, 64), (0, 64, 64, 128), (64, 64, 128, 128))
PROMPT = held_out_prompts(1, 23)[0][0]
Ways = dict[str, Callable[[], list[Any]]]


def run(*, full: bool = False) -> list[Row]:
    """Four regions of one image, and integrated gradients of five."""
    pipe: Any = STABLE_DIFFUSION.load()
    return [*_times(pipe), _missed(pipe)]


def _times(pipe: Any) -> list[Row]:
    def generation() -> list[Any]:
        with torch.no_grad():
            pipe(PROMPT, generator=torch.Generator().manual_seed(0), **STABLE_DIFFUSION.call())
        return []

    def explained(**options: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        call = STABLE_DIFFUSION.call()
        return explain_gradient(pipe, PROMPT, generator=generator, **call, **options)

    asked: Ways = {
        "generation alone": generation,
        "activations computed again, one call": lambda: explained(regions=REGIONS),
        "activations computed again, a call each": lambda: [
            explained(region=region) for region in REGIONS
        ],
        "activations kept, one call": lambda: explained(regions=REGIONS, checkpointing=False),
    }
    answers: dict[str, list[Any]] = {}
    taken = interleaved(
        {name: partial(_keep, answers, name, call) for name, call in asked.items()}, rounds=ROUNDS
    )
    rows = []
    for name, found in answers.items():
        memory = f"; activations {found[0].memory.peak:,} bytes" if found else ""
        what = f"CPU time for {len(REGIONS)} regions, {STABLE_DIFFUSION.steps} steps: {name}"
        rows.append(Row("gradients", what, f"{taken[name].text('s')}{memory}"))
    return rows


def _keep(answers: dict[str, list[Any]], name: str, call: Callable[[], list[Any]]) -> None:
    answers[name] = call()


def _missed(pipe: Any) -> Row:
    found = []
    for seed, (prompt, _) in enumerate(held_out_prompts(PROMPTS, 23)):
        words = explain_gradient(
            pipe,
            prompt,
            region=REGIONS[0],
            method="integrated_gradients",
            path_steps=PLACES,
            generator=torch.Generator().manual_seed(seed),
            **STABLE_DIFFUSION.call(),
        )
        found.append(abs(words.delta))
    what = f"share of the difference that integrated gradients miss, {PLACES} places on the path"
    text = f"median {statistics.median(found):.0%} ({min(found):.0%} to {max(found):.0%})"
    return Row("gradients", f"{what}; {PROMPTS} prompts", text)
