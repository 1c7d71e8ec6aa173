"""DAAM-I2I's names on this package: ``from diffusers_rdaam.compat import daami2i``.

Self-attention of an image: which places look at which. What is other than in
RishiDarkDevil/daam-i2i 0.2.0, and why, is in ``docs/migrating_daami2i.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.daam.devices import auto_autocast, auto_device, set_seed
from diffusers_rdaam.compat.daam.evaluate import compute_ioa, compute_iou, load_mask
from diffusers_rdaam.compat.daam.evaluators import MeanEvaluator, UnsupervisedEvaluator
from diffusers_rdaam.compat.daam.experiment import GenerationExperiment
from diffusers_rdaam.compat.daam.labels import (
    COCO80_INDICES,
    COCO80_LABELS,
    COCOSTUFF27_LABELS,
    build_word_list_coco80,
)
from diffusers_rdaam.compat.daam.plotting import plot_mask_heat_map, plot_overlay_heat_map
from diffusers_rdaam.compat.daam.scoring import evaluate_experiments
from diffusers_rdaam.compat.daami2i.heatmap import GlobalHeatMap, PixelHeatMap
from diffusers_rdaam.compat.daami2i.tracing import DiffusionHeatMapHooker, trace

__all__ = [
    "COCO80_INDICES",
    "COCO80_LABELS",
    "COCOSTUFF27_LABELS",
    "DiffusionHeatMapHooker",
    "GenerationExperiment",
    "GlobalHeatMap",
    "MeanEvaluator",
    "PixelHeatMap",
    "UnsupervisedEvaluator",
    "auto_autocast",
    "auto_device",
    "build_word_list_coco80",
    "compute_ioa",
    "compute_iou",
    "evaluate_experiments",
    "load_mask",
    "plot_mask_heat_map",
    "plot_overlay_heat_map",
    "set_seed",
    "trace",
]
