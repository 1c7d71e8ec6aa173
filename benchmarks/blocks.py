"""Which block of the embedded FLUX carries which word: each block's maps alone, and means of some.

IoU of the maps of phrases, colour words and shape words with their objects, each at a threshold of
its own that is chosen on other prompts. Blocks specialise, and which does what is no matter of
their kind: it is written on the model's card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.embedded_model import FLUX, Sample, generate
from benchmarks.recipes import overlap, usable
from benchmarks.report import Row
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

COUNT = 60
SEEDS = {"tuning": 70_000, "test": 60_000}
# Of "red circle": the whole, its colour, its shape.
KINDS: dict[str, Callable[[str], str]] = {
    "phrase": str,
    "colour": lambda name: name.split()[0],
    "shape": lambda name: name.split()[1],
}


def run(*, full: bool = False) -> list[Row]:
    """60 held-out prompts, or 200 with ``full``."""
    count = 200 if full else COUNT
    pipe = FLUX.load()
    pipe.set_attn_processor(RDAAMProcessor(keep="layers"))
    tuning = usable(generate(pipe, seen_prompts(count // 3, 7), SEEDS["tuning"]))
    samples = usable(generate(pipe, held_out_prompts(count, 6), SEEDS["test"]))
    about = f"{len(samples)} images of held-out prompts"
    rows = []
    for name, layers in _choices(samples[0].attribution).items():
        measured = []
        for kind, part in KINDS.items():
            best = int(_overlaps(tuning, layers, part).mean(axis=0).argmax())
            found = float(_overlaps(samples, layers, part)[:, best].mean())
            measured.append(f"{kind} {found:.2f}")
        rows.append(Row("blocks flux", f"tuned IoU, {name}; {about}", ", ".join(measured)))
    return rows


def _choices(attribution: Attribution) -> dict[str, list[str]]:
    """Each block, the blocks of each kind, the later half, all."""
    layers = list(attribution.layers)
    single = [name for name in layers if name.startswith("single")]
    double = [name for name in layers if name not in single]
    return {
        **{name: [name] for name in layers},
        "mean of the double-stream blocks": double,
        "mean of the single-stream blocks": single,
        "mean of the later half": layers[len(layers) // 2 :],
        "mean of all": layers,
    }


def _overlaps(
    samples: list[Sample], layers: list[str], part: Callable[[str], str]
) -> np.ndarray[Any, Any]:
    """``(images, thresholds)``, the mean over an image's two objects."""
    found = []
    for sample in samples:
        maps = sample.attribution.select(layers=layers)
        pairs = [
            overlap(maps.word(part(name)).normalized.numpy(), blob.mask)
            for name, blob in sample.blobs.items()
        ]
        found.append(np.mean(pairs, axis=0))
    return np.array(found)
