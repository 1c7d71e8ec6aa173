"""Every aggregation on the embedded model's images: how well the maps of words fit the objects.

One recording of each image serves all. Phrases ("red circle"), colour words and shape words are
compared with the objects' masks, at the default threshold and at one that is chosen on other
prompts; aggregations raw and refined, and the mean refined with the self-attention of the last
layer, of all layers, and of the layer that the rule without labels takes. Intervals are 95 %, over
images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.embedded_model import THRESHOLDS, Sample, generate
from benchmarks.report import Row
from diffusers_rdaam import RDAAMProcessor, aggregations, load_demo_pipeline
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import DEFAULT_THRESHOLD, HeatMap
from diffusers_rdaam.attribution.self_grid import finest
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

COUNT = 60
SEEDS = {"tuning": 52_000, "test": 42_000}
# Options of the recipes whose defaults belong to other checkpoints, and those that need a text of
# their own during the run, which the benchmark "recipes" measures.
OPTIONS: dict[str, dict[str, Any]] = {
    "expert_layer": {"layer": "up_blocks.1.attentions.1"},
    "goca": {"reference": "up_blocks.1.attentions.1"},
}
LEFT_OUT = ("ovam", "refined")
KINDS = ("phrase", "colour", "shape")
# The overlaps of an image's words by map and kind, at each threshold.
Curves = dict[tuple[str, str], np.ndarray]


def run(*, full: bool = False) -> list[Row]:
    """60 held-out prompts, or 160 with ``full``; two minutes, or five."""
    count = 160 if full else COUNT
    pipe: Any = load_demo_pipeline()
    keep = ("steps", "layers", "heads", "squares", "queries")
    pipe.set_attn_processor(
        RDAAMProcessor(keep=keep, self_attention="each", budget=2**34)  # type: ignore[arg-type]
    )
    tuning = curves(pipe, seen_prompts(count // 4, 5), SEEDS["tuning"])
    test = curves(pipe, held_out_prompts(count, 4), SEEDS["test"])
    rows = []
    for name in dict.fromkeys(name for name, _ in test):
        cells = [_cell(tuning[name, kind], test[name, kind]) for kind in KINDS]
        what = f"IoU phrase / colour / shape, {name}; {len(test[name, 'phrase'])} images"
        rows.append(Row("aggregations", what, "; ".join(cells)))
    return rows


def curves(pipe: Any, prompts: list[Any], seed: int) -> Curves:
    """``(images, thresholds)`` of each map and kind of word, mean over an image's two objects."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for start in range(0, len(prompts), 8):
        # Eight images at a time: all that is kept of them takes hundreds of megabytes.
        for sample in generate(pipe, prompts[start : start + 8], seed + start):
            if sample.usable:
                for key, curve in _of_sample(sample):
                    found.setdefault(key, []).append(curve)
    return {key: np.array(all_of) for key, all_of in found.items()}


def _of_sample(sample: Sample) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    for kind in KINDS:
        of_map: dict[str, list[np.ndarray]] = {}
        for phrase, blob in sample.blobs.items():
            word = dict(zip(KINDS, (phrase, *phrase.split()), strict=True))[kind]
            for name, heat_map in maps(sample.attribution, word):
                of_map.setdefault(name, []).append(_overlap(heat_map, blob.mask))
        yield from (((name, kind), np.mean(both, axis=0)) for name, both in of_map.items())


def maps(attribution: Attribution, word: str) -> Iterator[tuple[str, HeatMap]]:
    """Each map of a word, with its name."""
    grids = attribution.self_grids
    for name in aggregations():
        if name not in LEFT_OUT:
            aggregated = attribution.aggregated(name, **OPTIONS.get(name, {}))
            yield name, aggregated.word(word)
            # GoCA's is refined in the recipe, and GramCol is self-attention alone.
            if name not in ("mean", "goca", "gramcol"):
                last = replace(attribution, self_grids=grids[-1:])
                again = last.aggregated(name, **OPTIONS.get(name, {}))
                yield f"{name}, refined", again.word(word).refined()
    for name, chosen in (("last", grids[-1:]), ("all", (finest(grids),)), ("each", grids)):
        whole = replace(attribution, self_grids=chosen)
        yield f"refined, self_attention={name!r}", whole.word(word).refined()


def _overlap(heat_map: HeatMap, mask: np.ndarray) -> np.ndarray:
    values = heat_map.normalized.numpy()
    found = [values > threshold for threshold in THRESHOLDS]
    return np.array([(part & mask).sum() / max((part | mask).sum(), 1) for part in found])


def _cell(tuning: np.ndarray, test: np.ndarray) -> str:
    best = int(tuning.mean(axis=0).argmax())
    default = int(np.abs(THRESHOLDS - DEFAULT_THRESHOLD).argmin())
    error = 1.96 * test[:, best].std(ddof=1) / len(test) ** 0.5
    return (
        f"{test[:, default].mean():.3f} at {DEFAULT_THRESHOLD}, {test[:, best].mean():.3f} +- "
        f"{error:.3f} at {THRESHOLDS[best]:.2f}"
    )
