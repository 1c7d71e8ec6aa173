"""Concepts over the images of the embedded FLUX: what they cover, and whether they tell presence.

Each image is asked for its two objects and for two that it does not have, all in one vocabulary.
The ground truth is the colour segmentation of the image. The threshold of each way is chosen on
other prompts, over seen pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.embedded_model import THRESHOLDS
from benchmarks.report import Row
from diffusers_rdaam import Attribution, RDAAMProcessor, load_demo_pipeline
from diffusers_rdaam.demo.judge import find_blobs
from diffusers_rdaam.demo.world import COLOURS, SHAPES, held_out_prompts, seen_prompts

STREAMS = (None, "double", "single")
SEEDS = {"tuning": 50_000, "test": 40_000}
Prompts = list[tuple[str, tuple[str, str]]]


@dataclass(frozen=True)
class Asked:
    """One image, and the maps of its objects and of two that it does not have.

    Args:
        softmax, scores: of the same image, with a vocabulary of all four.
        masks: of each object that is there; none where the image does not show both.
        absent: the other two.
    """

    softmax: Attribution
    scores: Attribution
    masks: dict[str, np.ndarray]
    absent: tuple[str, ...]


def run(*, full: bool = False) -> list[Row]:
    """40 held-out prompts, or 160 with ``full``."""
    return rows_of(load_demo_pipeline("flux"), 160 if full else 40)


def rows_of(pipe: Any, count: int) -> list[Row]:
    """The rows of a pipeline of drawn scenes."""
    tuning = ask(pipe, seen_prompts(count // 2, 5), SEEDS["tuning"])
    test = ask(pipe, held_out_prompts(count, 5), SEEDS["test"])
    rows = []
    for kind in ("softmax", "scores"):
        for stream in STREAMS:
            best = int(overlaps(tuning, kind, stream).mean(axis=0).argmax())
            found = overlaps(test, kind, stream)[:, best]
            error = 1.96 * found.std(ddof=1) / len(found) ** 0.5
            blocks = "all blocks" if stream is None else f"{stream}-stream blocks"
            what = f"phrase IoU of {kind}, {blocks}, threshold {THRESHOLDS[best]:.2f}"
            rows.append(Row("concepts", what, f"{found.mean():.3f} +- {error:.3f} ({len(found)})"))
    for kind in ("softmax", "scores"):
        for stream in STREAMS:
            blocks = "all blocks" if stream is None else f"{stream}-stream blocks"
            what = f"present against absent by the peak of {kind}, {blocks}: AUC"
            rows.append(Row("concepts", what, f"{presence(test, kind, stream):.3f}"))
    return rows


def ask(pipe: Any, prompts: Prompts, first_seed: int) -> list[Asked]:
    """An image of each prompt with both kinds of maps."""
    rng = np.random.default_rng(first_seed)
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    found = []
    for number, (text, present) in enumerate(prompts):
        absent = tuple(map(str, rng.permutation([n for n in names if n not in present])[:2]))
        both = []
        for kind in ("softmax", "scores"):
            pipe.set_attn_processor(RDAAMProcessor(concepts=kind))
            output = pipe(
                text,
                generator=torch.Generator().manual_seed(first_seed + number),
                attribution_vocabulary=[*present, *absent],
            )
            both.append(output.attribution)
        found.append(Asked(both[0], both[1], _masks(both[0].image, present), absent))
    return found


def _masks(image: Any, present: tuple[str, str]) -> dict[str, np.ndarray]:
    blobs = {blob.colour: blob.mask for blob in find_blobs(image)}
    masks = {name: blobs.get(name.split()[0]) for name in present}
    return {name: mask for name, mask in masks.items() if mask is not None}


def _map(asked: Asked, kind: str, stream: str | None, name: str) -> Any:
    attribution = getattr(asked, kind).vocabulary[name]
    return (attribution if stream is None else attribution.select(stream=stream)).word(name)


def overlaps(images: list[Asked], kind: str, stream: str | None) -> np.ndarray:
    """Of each image that shows both objects, the mean IoU at each threshold."""
    found = []
    for asked in images:
        if len(asked.masks) < 2:
            continue
        curves = []
        for name, mask in asked.masks.items():
            values = _map(asked, kind, stream, name).normalized.numpy()
            parts = [values > threshold for threshold in THRESHOLDS]
            curves.append([(one & mask).sum() / max((one | mask).sum(), 1) for one in parts])
        found.append(np.mean(curves, axis=0))
    return np.array(found)


def presence(images: list[Asked], kind: str, stream: str | None) -> float:
    """How often an object that is there has the higher peak than one that is not (AUC)."""
    there, absent = [], []
    for asked in images:
        there += [float(_map(asked, kind, stream, n).values.max()) for n in asked.masks]
        absent += [float(_map(asked, kind, stream, n).values.max()) for n in asked.absent]
    higher = np.subtract.outer(there, absent)
    return float((higher > 0).mean() + (higher == 0).mean() / 2)
