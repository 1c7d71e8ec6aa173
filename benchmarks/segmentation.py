"""Masks of classes on the embedded model's images, by refinement and CRF: IoU with the objects.

Two objects an image, phrases as words, prompts of pairs that training has shown; the ground truth
is the colour segmentation of the generated image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from benchmarks.embedded_model import Sample, generate
from benchmarks.recipes import usable
from benchmarks.report import Row
from benchmarks.table import Table
from diffusers_rdaam import DenseCRF, RDAAMProcessor, load_demo_pipeline, segment
from diffusers_rdaam.demo.world import seen_prompts
from diffusers_rdaam.errors import CRFExtraError
from diffusers_rdaam.evaluation.metrics.intervals import normal_interval
from diffusers_rdaam.evaluation.metrics.overlap import intersection_over_union
from diffusers_rdaam.segmentation.segment import Refine

COUNT, FULL = 24, 80
PROMPTS, SEED = 29, 64_000
CRFS: dict[str, DenseCRF | None] = {
    "without CRF": None,
    "soft CRF": DenseCRF(),
    "OVAM's CRF, on the 0/1 mask": DenseCRF.ovam(),
}
# Attn2Mask's beta.
BACKGROUNDS = (0.2, 0.0, -0.2)

_tables: list[Table] = []


def run(*, full: bool = False) -> list[Row]:
    """24 images, or 80 with ``full``."""
    pipe: Any = load_demo_pipeline()
    pipe.set_attn_processor(RDAAMProcessor(self_attention=True))
    count = FULL if full else COUNT
    return rows_of(usable(generate(pipe, seen_prompts(count, PROMPTS), SEED)))


def tables() -> list[Table]:
    """The masks of the last :func:`run`: refinements down, CRFs across."""
    return list(_tables)


def rows_of(samples: Sequence[Sample]) -> list[Row]:
    """A row for each way to make masks."""
    cells = {
        refine: {name: _shown(samples, refine=refine, crf=crf) for name, crf in CRFS.items()}
        for refine in get_args(Refine)
    }
    lines = [[refine, *each.values()] for refine, each in cells.items()]
    title = f"IoU of masks with their objects, {len(samples)} images"
    _tables[:] = [Table(title, ["refinement", *CRFS], lines)]
    rows = [
        Row("segmentation", f"IoU, refinement {refine}, {crf}; {len(samples)} images", cell)
        for refine, each in cells.items()
        for crf, cell in each.items()
    ]
    for background in BACKGROUNDS:
        what = f"IoU, Attn2Mask's background at {background:g}; {len(samples)} images"
        rows.append(Row("segmentation", what, _shown(samples, background=background)))
    return rows


def overlaps(samples: Sequence[Sample], **how: Any) -> list[float]:
    """The IoU of each image, the mean of its two objects.

    Args:
        samples: with both objects.
        how: arguments of :func:`diffusers_rdaam.segment`.
    """
    found = []
    for sample in samples:
        labels = segment(sample.attribution, list(sample.names), **how)
        pairs = [
            intersection_over_union(labels.mask(name).numpy(), blob.mask)
            for name, blob in sample.blobs.items()
        ]
        found.append(sum(pairs) / len(pairs))
    return found


def _shown(samples: Sequence[Sample], **how: Any) -> str:
    try:
        mean, half = normal_interval(overlaps(samples, **how))
    except CRFExtraError:
        return "not measured: pydensecrf2 is not installed"
    return f"{mean:.3f} ± {half:.3f}".replace("0.", ".")
