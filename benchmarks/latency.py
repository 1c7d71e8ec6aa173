"""From the end of a run to its attribution, and how long a question takes after that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import torch
from transformers import CLIPTokenizerFast

from benchmarks.report import Row, judged
from benchmarks.sizes import (
    PROMPT,
    SD15,
    TINY_PIPELINE,
    TOKENS,
    site_grids,
    unet_without_memory,
)
from benchmarks.timing import Sample, cpu_seconds
from diffusers_rdaam import Attribution
from diffusers_rdaam.geometry import grid as interpolation
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator, shape_of
from diffusers_rdaam.tokens.alignment import align

GUARDS = (
    "tests/geometry/test_grid.py",
    "tests/attribution/test_laws.py",
    "tests/attribution/test_region_words.py",
)

QUESTIONS = 200
ROUNDS = 15
GOALS_MS = {"ready": 20.0, "region": 1.0, "word": 3.0}
SIZE = f"{SD15.size_text}, {TOKENS} tokens, grids 64, 32, 16, 8"


def run(*, full: bool = False) -> list[Row]:
    """One attribution of SD1.5's size from random maps; then boxes, shapes and words at random."""
    accumulator = _filled_accumulator()
    tokenizer = CLIPTokenizerFast.from_pretrained(TINY_PIPELINE / "tokenizer")

    def build() -> Attribution:
        (grids,) = accumulator.read()
        return Attribution(align(tokenizer, PROMPT, TOKENS), grids, SD15.image)

    attribution = build()
    ready = Sample(tuple(cpu_seconds(build) for _ in range(ROUNDS)))
    interpolation._kept.cache_clear()
    first = cpu_seconds(lambda: attribution.region((0, 0, 100, 100)).words)
    draw = random.Random(5)
    boxes = [_box(draw) for _ in range(QUESTIONS)]
    polygons = [_triangle(draw) for _ in range(QUESTIONS // 4)]
    masks = [_mask(box) for box in boxes[: QUESTIONS // 4]]
    whole = [torch.ones(SD15.image, dtype=torch.bool)] * (QUESTIONS // 4)
    words = [draw.choice(attribution.words) for _ in range(QUESTIONS)]

    def ask(question: object) -> object:
        return attribution.region(question).words

    return [
        _judged("ready", "sums read, prompt aligned, attribution built", ready),
        Row(
            "latency",
            "the first region ever (interpolation matrices and levels are made and kept)",
            f"{first * 1e3:.3g} ms",
        ),
        _judged("region", "region(box) with its ranked words, random boxes", _each(ask, boxes)),
        _judged("region", "region(polygon), random triangles", _each(ask, polygons)),
        _judged("region", "region(mask) of the image's size, random boxes", _each(ask, masks)),
        _judged("region", "region(mask) of the whole image", _each(ask, whole)),
        _judged("word", "word(w), the map at the image's size", _each(attribution.word, words)),
    ]


def _judged(goal: str, what: str, sample: Sample) -> Row:
    limit = GOALS_MS[goal]
    return judged(
        "latency",
        f"{what}; {SIZE}",
        sample.text(),
        f"median at most {limit:g} ms",
        sample.median * 1e3 <= limit,
    )


def _each(ask: Callable[..., object], questions: Iterable[object]) -> Sample:
    return Sample(tuple(cpu_seconds(lambda q=question: ask(q)) for question in questions))


def _filled_accumulator() -> HeatMapAccumulator:
    grids = site_grids(unet_without_memory())
    accumulator = HeatMapAccumulator(shape_of(images=1, tokens=TOKENS, grids=grids))
    generator = torch.Generator().manual_seed(1)
    for site, (height, width) in grids.items():
        logits = torch.randn(1, TOKENS, height * width, generator=generator) * 2.0
        accumulator.add(site, torch.softmax(logits, dim=1))
    return accumulator


def _box(draw: random.Random) -> tuple[int, int, int, int]:
    height, width = SD15.image
    left, right = sorted(draw.sample(range(width + 1), 2))
    top, bottom = sorted(draw.sample(range(height + 1), 2))
    return (left, top, right, bottom)


def _triangle(draw: random.Random) -> list[tuple[float, float]]:
    height, width = SD15.image
    return [(draw.uniform(0, width), draw.uniform(0, height)) for _ in range(3)]


def _mask(box: tuple[int, int, int, int]) -> torch.Tensor:
    left, top, right, bottom = box
    mask = torch.zeros(SD15.image, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask
