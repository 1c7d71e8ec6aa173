"""The demo's optimised tokens against words: IoU of masks in images that no token was fitted to.

Objects' true masks are the colour segmentation of the generated image. Each image has two objects
of different shapes; the map of a shape's token is compared with that of the shape's word and of its
phrase ("red circle"). Thresholds of tokens are chosen on seen prompts and reported on held-out
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.embedded_model import Sample, generate
from benchmarks.report import Row
from diffusers_rdaam import RDAAMProcessor, load_demo_pipeline, load_tokens
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts
from diffusers_rdaam.evaluation.metrics.intervals import normal_interval
from diffusers_rdaam.evaluation.metrics.overlap import intersection_over_union
from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken
from diffusers_rdaam.segmentation.tokens import DEMO, TOKEN_THRESHOLD, token_heat_maps

COUNT = 24
# Neither prompts nor seeds of what tokens were fitted to: prompts of one object, seeds from 0.
TEST, TUNING = (23, 62_000), (17, 57_000)
THRESHOLDS = np.round(np.arange(0.20, 0.95, 0.05), 2)
KINDS: dict[str, Callable[[HeatMap], HeatMap]] = {
    "none": lambda heat: heat,
    "guided": lambda heat: heat.sharpened(),
    "self": lambda heat: heat.refined(),
    "self+guided": lambda heat: heat.refined().sharpened(),
}
Tokens = Mapping[str, OptimizedToken]


def run(*, full: bool = False) -> list[Row]:
    """24 images of held-out prompts, and 24 to choose thresholds on; 80 each with ``full``."""
    return rows(load_tokens(DEMO), 80 if full else COUNT)


def rows(tokens: Tokens, count: int) -> list[Row]:
    """What some tokens bring, by refinement."""
    pipe: Any = load_demo_pipeline()
    pipe.set_attn_processor(RDAAMProcessor(self_attention=True))
    given = {"attribution_vocabulary": list(tokens.values())}
    tuning = generate(pipe, seen_prompts(count, TUNING[0]), TUNING[1], **given)
    samples = generate(pipe, held_out_prompts(count, TEST[0]), TEST[1], **given)
    table, place = [], THRESHOLDS.tolist().index(TOKEN_THRESHOLD)
    for kind, change in KINDS.items():
        curve = np.mean(token_curves(tuning, tokens, change), axis=0)
        best = int(curve.argmax())
        found = token_curves(samples, tokens, change)
        default = [one[place] for one in found]
        words, phrases = word_overlaps(samples, change)
        measured = (
            f"word {_shown(words)}, phrase {_shown(phrases)}, token at {TOKEN_THRESHOLD} "
            f"{_shown(default)}, at {THRESHOLDS[best]:.2f} (best on other prompts, where it has "
            f"{curve[best]:.3f}) {_shown([one[best] for one in found])}"
        )
        table.append(Row("tokens", f"IoU, refinement {kind}, {len(found)} objects", measured))
    return table


def token_curves(
    samples: list[Sample], tokens: Tokens, change: Callable[[HeatMap], HeatMap]
) -> list[list[float]]:
    """IoU of each object's token at each of :data:`THRESHOLDS`."""
    curves = []
    for sample in filter(_is_clear, samples):
        maps = token_heat_maps(sample.attribution, tokens)
        for name, blob in sample.blobs.items():
            values = change(maps[name.split()[1]]).normalized.numpy()
            curves.append([intersection_over_union(values > t, blob.mask) for t in THRESHOLDS])
    return curves


def word_overlaps(
    samples: list[Sample], change: Callable[[HeatMap], HeatMap]
) -> tuple[list[float], list[float]]:
    """IoU of each object's shape and of its phrase, by the package's threshold."""
    words, phrases = [], []
    for sample in filter(_is_clear, samples):
        for name, blob in sample.blobs.items():
            for found, text in ((words, name.split()[1]), (phrases, name)):
                mask = change(sample.attribution.word(text)).mask().numpy()
                found.append(intersection_over_union(mask, blob.mask))
    return words, phrases


def _is_clear(sample: Sample) -> bool:
    """Whether both objects are there, and a shape's token can mean only one of them."""
    return sample.usable and len({name.split()[1] for name in sample.names}) == 2


def _shown(values: list[float]) -> str:
    mean, half = normal_interval(values)
    return f"{mean:.3f}±{half:.3f}"
