"""Which layer of the embedded models carries which word: each one's maps alone, and means of some.

IoU of the maps of phrases, colour words and shape words with their objects, each at a threshold of
its own that is chosen on other prompts; next to them ``auto``, which weighs the layers for each
word. Layers specialise, and which does what is no matter of their kind: FLUX's blocks are on the
model's card.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.embedded_model import MODELS, EmbeddedModel, Sample, generate
from benchmarks.recipes import overlap, usable
from benchmarks.report import Row
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

COUNT = 60
SEEDS = {"tuning": 70_000, "test": 60_000}
Maps = Callable[[Attribution], Attribution]
# Of "red circle": the whole, its colour, its shape.
KINDS: dict[str, Callable[[str], str]] = {
    "phrase": str,
    "colour": lambda name: name.split()[0],
    "shape": lambda name: name.split()[1],
}


def run(*, full: bool = False) -> list[Row]:
    """60 held-out prompts a model, or 200 with ``full``."""
    return [row for model in MODELS for row in rows_of(model, 200 if full else COUNT)]


def rows_of(model: EmbeddedModel, count: int) -> list[Row]:
    """A row for each layer of a model, each mean of some, and ``auto``."""
    pipe = model.load()
    pipe.set_attn_processor(RDAAMProcessor(keep=("steps", "layers"), self_attention="each"))
    tuning = usable(generate(pipe, seen_prompts(count // 3, 7), SEEDS["tuning"]))
    samples = usable(generate(pipe, held_out_prompts(count, 6), SEEDS["test"]))
    about = f"{len(samples)} images of held-out prompts"
    rows = []
    for name, maps in _choices(samples[0].attribution).items():
        measured = []
        for kind, part in KINDS.items():
            best = int(_overlaps(tuning, maps, part).mean(axis=0).argmax())
            found = float(_overlaps(samples, maps, part)[:, best].mean())
            measured.append(f"{kind} {found:.3f}")
        rows.append(Row(f"blocks {model.name}", f"tuned IoU, {name}; {about}", ", ".join(measured)))
    return rows


def _choices(attribution: Attribution) -> dict[str, Maps]:
    """Each layer, all, ``auto``; of transformers the blocks of each kind and the later half too."""
    layers = list(attribution.layers)
    single = [name for name in layers if name.startswith("single")]
    # A UNet's are not listed from the first to the last.
    of_transformers = {
        "mean of the double-stream blocks": [name for name in layers if name not in single],
        "mean of the single-stream blocks": single,
        "mean of the later half": layers[len(layers) // 2 :],
    }
    chosen = {
        **{name: [name] for name in layers},
        **(of_transformers if single else {}),
        "mean of all": layers,
    }
    return {
        **{name: partial(Attribution.select, layers=each) for name, each in chosen.items()},
        "auto": lambda attribution: attribution.aggregated("auto"),
    }


def _overlaps(
    samples: list[Sample], maps: Maps, part: Callable[[str], str]
) -> np.ndarray[Any, Any]:
    """``(images, thresholds)``, the mean over an image's two objects."""
    found = []
    for sample in samples:
        attribution = maps(sample.attribution)
        pairs = [
            overlap(attribution.word(part(name)).normalized.numpy(), blob.mask)
            for name, blob in sample.blobs.items()
        ]
        found.append(np.mean(pairs, axis=0))
    return np.array(found)
