"""The predecessors' recipes beside ours, on the embedded models' images.

One recording of each image serves all: phrase IoU with the objects, each recipe at a threshold of
its own that is chosen on other prompts, and how often the best word of a box around an object is
one of its own. Intervals are 95 %, over images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.embedded_model import (
    MODELS,
    STABLE_DIFFUSION,
    THRESHOLDS,
    EmbeddedModel,
    Sample,
    bounding_box,
    generate,
)
from benchmarks.report import Row
from diffusers_rdaam import RDAAMProcessor, explain_gradient
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

COUNT = 100
GRADIENTS = 40
SEEDS = {"tuning": 50_000, "test": 40_000}
Map = Callable[[Any, Attribution, str], torch.Tensor]


def _stretched(values: torch.Tensor) -> torch.Tensor:
    return (values - values.min()) / (values.max() - values.min()).clamp(min=1e-8)


def _daam(pipe: Any, attribution: Attribution, phrase: str) -> torch.Tensor:
    """Without the middle block, which DAAM does not see; the mean over tokens, stretched.

    Its cut at zero changes nothing here: all other grids are as large as the one it enlarges to.
    """
    seen = [name for name in attribution.layers if not name.startswith("mid_block")]
    return _stretched(attribution.select(layers=seen).word(phrase).values)


def _rdaam(pipe: Any, attribution: Attribution, phrase: str) -> torch.Tensor:
    """All layers, over the maximum."""
    values = attribution.word(phrase).values
    return values / values.max()


def _ovam(pipe: Any, attribution: Attribution, phrase: str) -> torch.Tensor:
    """The phrase alone as the text, without padding, so that only its own tokens compete."""
    return _stretched(pipe.query(attribution, phrase).word(phrase).values)


def _raw(pipe: Any, attribution: Attribution, phrase: str) -> torch.Tensor:
    return attribution.word(phrase).normalized


def _refined(pipe: Any, attribution: Attribution, phrase: str) -> torch.Tensor:
    return attribution.word(phrase).refined().normalized


MAPS: dict[str, Map] = {
    "DAAM's recipe": _daam,
    "rdaam's recipe": _rdaam,
    "OVAM's recipe": _ovam,
    "ours": _raw,
    "ours, refined": _refined,
}
# A UNet's middle block, and text that no attention rewrites: DAAM and OVAM are about these.
OF_UNETS = ("DAAM's recipe", "OVAM's recipe")


def run(*, full: bool = False) -> list[Row]:
    """100 held-out prompts a model, or 200 and gradients of 40 with ``full``."""
    return [row for model in MODELS for row in _rows(model, full=full)]


def _rows(model: EmbeddedModel, *, full: bool) -> list[Row]:
    count = 200 if full else COUNT
    of_unet = model is STABLE_DIFFUSION
    pipe = model.load()
    keep = ("layers", "queries") if of_unet else ("layers",)
    pipe.set_attn_processor(RDAAMProcessor(keep=keep, self_attention=True))
    tuning = usable(generate(pipe, seen_prompts(count // 4, 5), SEEDS["tuning"]))
    samples = usable(generate(pipe, held_out_prompts(count, 4), SEEDS["test"]))
    about = f"{len(samples)} images of held-out prompts"
    name, rows = f"recipes {model.name}", []
    for recipe, make in MAPS.items():
        if recipe in OF_UNETS and not of_unet:
            continue
        best = int(_overlaps(pipe, tuning, make).mean(axis=0).argmax())
        found = _overlaps(pipe, samples, make)[:, best]
        what = f"phrase IoU, {recipe}, threshold {THRESHOLDS[best]:.2f}; {about}"
        rows.append(Row(name, what, _interval(found)))
    for recipe, ranking, refine in (
        ("rdaam's: mean over the box", "score", False),
        ("ours: lift", "lift", False),
        ("ours, refined: lift", "lift", True),
    ):
        wins = np.array([_own_word(sample, ranking, refine) for sample in samples])
        what = f"best word of a box is its object's, {recipe}"
        rows.append(Row(name, what, _interval(wins)))
    if full:
        part = samples[:GRADIENTS]
        wins = np.array([_gradient_word(pipe, model, sample) for sample in part])
        what = (
            f"best word of a box is its object's, by gradients (grad_x_input); {len(wins)} images"
        )
        rows.append(Row(name, what, _interval(wins)))
    return rows


def usable(samples: list[Sample]) -> list[Sample]:
    """Those in which both objects can be told."""
    return [sample for sample in samples if sample.usable]


def _overlaps(pipe: Any, samples: list[Sample], recipe: Map) -> np.ndarray:
    """``(images, thresholds)``, the mean over an image's two phrases."""
    return np.array(
        [
            np.mean(
                [
                    overlap(recipe(pipe, sample.attribution, name).numpy(), blob.mask)
                    for name, blob in sample.blobs.items()
                ],
                axis=0,
            )
            for sample in samples
        ]
    )


def overlap(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Intersection over union with a mask, at each of :data:`THRESHOLDS`."""
    found = [values > threshold for threshold in THRESHOLDS]
    return np.array([(part & mask).sum() / max((part | mask).sum(), 1) for part in found])


def _own_word(sample: Sample, ranking: Any, refine: bool) -> float:
    attribution = sample.attribution.refined() if refine else sample.attribution
    wins = [
        attribution.region(bounding_box(blob.mask), ranking=ranking).top(1)[0].text in name.split()
        for name, blob in sample.blobs.items()
    ]
    return float(np.mean(wins))


def _gradient_word(pipe: Any, model: EmbeddedModel, sample: Sample) -> float:
    """From one more generation and its way back; diffusers-interpret needs both for each box."""
    generator = torch.Generator().manual_seed(int(sample.attribution.run["seed"]))
    found = explain_gradient(
        pipe,
        sample.attribution.prompt.text,
        regions=[bounding_box(blob.mask) for blob in sample.blobs.values()],
        generator=generator,
        **model.call(),
    )
    wins = [
        words.top(1)[0].text in name.split()
        for words, name in zip(found, sample.blobs, strict=True)
    ]
    return float(np.mean(wins))


def _interval(values: np.ndarray) -> str:
    error = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} +- {error:.3f}"
