"""How faithful attention and gradients are: against generation without each word.

Two-object prompts over pairs that training never showed together, on the embedded model; a box
around each object. Every explanation ranks the words of the box. Two numbers say how right it is:
the rank correlation with what really changes in the box when the model does not see a word, and
the area under the deletion curve, for which words are taken away best first.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.embedded_model import bounding_box
from benchmarks.report import Row
from diffusers_rdaam import load_demo_pipeline
from diffusers_rdaam.demo.judge import find_blobs
from diffusers_rdaam.demo.loader import GUIDANCE_SCALE, STEPS
from diffusers_rdaam.demo.world import held_out_prompts
from diffusers_rdaam.explain.ablations.ablation import explain_ablation, measure
from diffusers_rdaam.explain.ablations.deletion import Deletion
from diffusers_rdaam.explain.compare import rank_correlation
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords
from diffusers_rdaam.explain.gradients.reductions import PixelMethod, reduce_entries
from diffusers_rdaam.explain.gradients.regeneration import (
    GradientOptions,
    GradientRegeneration,
    entries_last,
)
from diffusers_rdaam.explain.gradients.requirements import hold_still
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.tokens.alignment import prompt_of

FIRST_SEED = 40_000
METHODS: tuple[PixelMethod, ...] = ("grad_x_input", "max_grad", "min_grad", "mean_grad")
RESAMPLES = 4000
Scores = dict[str, float]


@dataclass
class Found:
    """Of each explanation, a number for each scene: the mean of its boxes."""

    correlation: dict[str, list[float]] = field(default_factory=dict)
    area: dict[str, list[float]] = field(default_factory=dict)
    right: dict[str, list[float]] = field(default_factory=dict)
    scenes: int = 0

    def note(self, name: str, correlation: float, area: float, right: bool) -> None:
        """Note a box of the scene that is counted last."""
        for table, value in (
            (self.correlation, correlation),
            (self.area, area),
            (self.right, float(right)),
        ):
            values = table.setdefault(name, [])
            if len(values) < self.scenes:
                values.append(value)
            else:
                values[-1] = (values[-1] + value) / 2.0


def run(*, full: bool = False) -> list[Row]:
    """24 prompts, or 200 with ``full``."""
    return rows(evaluate(200 if full else 24))


def rows(found: Found) -> list[Row]:
    """A row for each explanation."""
    what = f"{found.scenes} scenes, {STEPS} steps, guidance {GUIDANCE_SCALE:g}"
    table = []
    for name in found.correlation:
        measured = (
            f"rank correlation {interval(found.correlation[name])}; deletion area "
            f"{interval(found.area[name])}; best word is the object's {interval(found.right[name])}"
        )
        table.append(Row("faithfulness", f"{name}; {what}", measured))
    return table


def evaluate(count: int) -> Found:
    """Everything that is published, from ``count`` prompts."""
    pipe = load_demo_pipeline()
    found = Found()
    for index, (prompt, names) in enumerate(held_out_prompts(count, 1)):
        make = functools.partial(torch.Generator().manual_seed, FIRST_SEED + index)
        scene(pipe, prompt, names, make, found)
        print(f"{index + 1} of {count}", file=sys.stderr, flush=True)
    return found


def scene(
    pipe: Any, prompt: str, names: tuple[str, str], noise: Callable[[], Any], found: Found
) -> None:
    """One prompt: the boxes of both objects, where both can be told in the image."""
    call: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
    attribution = pipe(prompt, generator=noise(), **call).attribution
    blobs = {blob.colour: blob for blob in find_blobs(attribution.image)[::-1]}
    if not all(name.split()[0] in blobs for name in names):
        return
    found.scenes += 1
    boxes = [bounding_box(blobs[name.split()[0]].mask) for name in names]
    padded = explain_ablation(
        pipe, prompt, regions=boxes, mode="padding", generator=noise(), **call
    )
    gradients = by_gradient(pipe, prompt, boxes, call | {"generator": noise()})
    deletion = Deletion(pipe, prompt, generator=noise(), **call)
    rng = np.random.default_rng(found.scenes)
    for index, (box, name) in enumerate(zip(boxes, names, strict=True)):
        words = attribution.region(box)
        # What explain_ablation(mode="mask") gives; these generations are the curves' first, too.
        wanted = {word.text: measure(deletion.without([word.text]), box)[0] for word in words}
        scores: dict[str, Scores] = {
            "attention, lift": {word.text: word.lift for word in words},
            "attention, score": {word.text: word.score for word in words},
            **{f"gradient, {method}": each[index] for method, each in gradients.items()},
            "ablation by padding": {word.text: word.score for word in padded[index]},
            "random": {word.text: float(rng.random()) for word in words},
            "ablation by mask (the reference)": wanted,
        }
        for kind, each in scores.items():
            order = sorted(wanted, key=lambda word, by=each: -by[word])
            found.note(
                kind,
                rank_correlation([each[word] for word in wanted], list(wanted.values())),
                deletion.curve(box, order).area,
                order[0] in name.split(),
            )


def by_gradient(
    pipe: Any, prompt: str, boxes: list[Box], call: dict[str, Any]
) -> dict[str, list[Scores]]:
    """Every method, and every box, from one generation and one way back."""
    settings = GradientOptions("any", None, True, False, True, None)
    found: dict[str, list[Scores]] = {method: [] for method in METHODS}
    with ExitStack() as undo:
        hold_still({"unet": pipe.unet, "vae": pipe.vae}, undo)
        regeneration = GradientRegeneration(pipe, settings, boxes)
        image = regeneration.picture(regeneration.run(call | {"prompt": prompt}))
        text = entries_last(regeneration.leaves["text"])
        for box, gradients in zip(boxes, regeneration.gradients(), strict=True):
            for method in METHODS:
                values = reduce_entries(method, entries_last(gradients["text"]), text)
                words = GradientWords(
                    prompt_of(pipe, prompt, len(values)), box, image, values, method
                )
                found[method].append({word.text: word.score for word in words})
    return found


def interval(values: list[float]) -> str:
    """The mean with its 95 % interval, by resampling scenes."""
    known = np.asarray(values)[~np.isnan(values)]
    draws = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.percentile(known[draws].mean(axis=1), [2.5, 97.5])
    return f"{known.mean():.2f} ({low:.2f} to {high:.2f})"
