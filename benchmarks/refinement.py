"""Words refined by self-attention: which way helps, measured on the embedded model's images.

Phrase IoU with the objects and box to word, as in ``embedded_model``, raw and refined; each way
has a threshold of its own, chosen on other prompts. Differences are paired, their intervals over
images.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from benchmarks.embedded_model import (
    RANKINGS,
    THRESHOLDS,
    Sample,
    box_to_word,
    generate,
)
from benchmarks.report import Row, judged
from diffusers_rdaam import RDAAMProcessor, load_demo_pipeline
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.self_attention.refinement import DEFAULT_REFINEMENT, Refinement
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

METHODS: tuple[Refinement, ...] = get_args(Refinement)
COUNT = 200
# Not the seeds that the default was chosen with, which were 10 000 to 10 095.
SEEDS = {"tuning": 30_000, "test": 20_000}


def run(*, full: bool = False) -> list[Row]:
    """200 held-out prompts, or 500 with ``full``; a minute and a half, or four."""
    count = 500 if full else COUNT
    pipe: Any = load_demo_pipeline()
    pipe.set_attn_processor(RDAAMProcessor(self_attention=True))
    tuning = generate(pipe, seen_prompts(count // 4, 3), SEEDS["tuning"])
    samples = generate(pipe, held_out_prompts(count, 1), SEEDS["test"])
    curves = {method: overlaps(samples, method) for method in METHODS}
    about = f"{len(curves['none'])} images of held-out prompts"
    return [
        *_overlap_rows(tuning, curves, about),
        *(_words_row(samples, method, about) for method in METHODS),
        _segments_row(samples, about),
    ]


def overlaps(samples: list[Sample], method: Refinement) -> np.ndarray:
    """Of each image, the mean over its two phrases at each threshold: ``(images, thresholds)``."""
    return np.array(
        [
            np.mean(
                [_overlap(_refined(sample, name, method), blob.mask) for name, blob in pairs], 0
            )
            for sample in samples
            if sample.usable
            for pairs in [sample.blobs.items()]
        ]
    )


def _refined(sample: Sample, name: str, method: Refinement) -> HeatMap:
    return sample.attribution.word(name).refined(method)


def _overlap(heat_map: HeatMap, mask: np.ndarray) -> np.ndarray:
    values = heat_map.normalized.numpy()
    found = [values > threshold for threshold in THRESHOLDS]
    return np.array([(part & mask).sum() / max((part | mask).sum(), 1) for part in found])


def _overlap_rows(
    tuning: list[Sample], curves: dict[Refinement, np.ndarray], about: str
) -> list[Row]:
    raw = curves["none"][:, overlaps(tuning, "none").mean(axis=0).argmax()]
    rows = []
    for method, curve in curves.items():
        best = int(overlaps(tuning, method).mean(axis=0).argmax())
        at_04 = curve[:, int(np.abs(THRESHOLDS - 0.4).argmin())].mean()
        gain = curve[:, best] - raw
        error = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
        what = f"phrase IoU, {_name(method)}, threshold {THRESHOLDS[best]:.2f}; {about}"
        measured = f"{curve[:, best].mean():.3f} (at 0.4: {at_04:.3f})"
        if method == "none":
            rows.append(Row("refinement", what, measured))
            continue
        measured += f", {gain.mean():+.3f} +- {error:.3f} against the raw map (95 %, paired)"
        if method == DEFAULT_REFINEMENT:
            met = gain.mean() - error > 0
            rows.append(judged("refinement", what, measured, "helps, over its interval", met))
        else:
            rows.append(Row("refinement", what, measured))
    return rows


def _words_row(samples: list[Sample], method: Refinement, about: str) -> Row:
    refined = [Sample(s.names, s.attribution.refined(method), s.verdict, s.blobs) for s in samples]
    wins = box_to_word(refined, RANKINGS["lift"])
    measured = ", ".join(f"{kind} {share:.1%}" for kind, share in wins.items())
    return Row("refinement", f"box to word by lift, {_name(method)}; {about}", measured)


def _segments_row(samples: list[Sample], about: str) -> Row:
    best, counts = [], []
    for sample in samples:
        if sample.usable:
            segments = sample.attribution.self_attention.diffused()
            counts.append(len(segments))
            parts = [(segments.labels == i).numpy() for i in range(len(segments))]
            for blob in sample.blobs.values():
                shares = [(p & blob.mask).sum() / (p | blob.mask).sum() for p in parts]
                best.append(max(shares))
    measured = f"{np.mean(best):.3f}, {np.mean(counts):.1f} segments an image"
    what = f"IoU of each object with the segment that fits best, no words; {about}"
    return Row("refinement", what, measured)


def _name(method: Refinement) -> str:
    return f"refined({method!r}){' (the default)' if method == DEFAULT_REFINEMENT else ''}"
