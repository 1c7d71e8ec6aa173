"""DAAM's names on this package: ``from diffusers_rdaam.compat.daam import trace, set_seed``.

Tang et al. (2023), *What the DAAM: Interpreting Stable Diffusion Using Cross Attention*. What is
other than in castorini/daam 0.2.0, and why, is in ``docs/migrating_daam.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.daam.devices import auto_autocast, auto_device, set_seed
from diffusers_rdaam.compat.daam.evaluate import compute_ioa, compute_iou, load_mask
from diffusers_rdaam.compat.daam.evaluators import MeanEvaluator, UnsupervisedEvaluator
from diffusers_rdaam.compat.daam.experiment import GenerationExperiment
from diffusers_rdaam.compat.daam.heatmap import (
    GlobalHeatMap,
    ParsedHeatMap,
    SyntacticHeatMapPair,
    WordHeatMap,
)
from diffusers_rdaam.compat.daam.labels import (
    COCO80_INDICES,
    COCO80_LABELS,
    COCO80_ONTOLOGY,
    COCO80_TO_27,
    COCOSTUFF27_LABELS,
    build_word_list_coco80,
)
from diffusers_rdaam.compat.daam.plotting import plot_mask_heat_map, plot_overlay_heat_map
from diffusers_rdaam.compat.daam.prompt_sets import (
    cconj_prompts,
    coco_prompts,
    template_prompts,
    unreal_prompts,
)
from diffusers_rdaam.compat.daam.raw import RawHeatMapCollection
from diffusers_rdaam.compat.daam.scoring import ExperimentScores, evaluate_experiments
from diffusers_rdaam.compat.daam.tracing import DiffusionHeatMapHooker, trace
from diffusers_rdaam.compat.daam.words import compute_token_merge_indices

__all__ = [
    "COCO80_INDICES",
    "COCO80_LABELS",
    "COCO80_ONTOLOGY",
    "COCO80_TO_27",
    "COCOSTUFF27_LABELS",
    "DiffusionHeatMapHooker",
    "ExperimentScores",
    "GenerationExperiment",
    "GlobalHeatMap",
    "MeanEvaluator",
    "ParsedHeatMap",
    "RawHeatMapCollection",
    "SyntacticHeatMapPair",
    "UnsupervisedEvaluator",
    "WordHeatMap",
    "auto_autocast",
    "auto_device",
    "build_word_list_coco80",
    "cconj_prompts",
    "coco_prompts",
    "compute_ioa",
    "compute_iou",
    "compute_token_merge_indices",
    "evaluate_experiments",
    "load_mask",
    "plot_mask_heat_map",
    "plot_overlay_heat_map",
    "set_seed",
    "template_prompts",
    "trace",
    "unreal_prompts",
]
