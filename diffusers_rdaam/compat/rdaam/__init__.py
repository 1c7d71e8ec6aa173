"""rdaam's names on this package: ``from diffusers_rdaam.compat.rdaam import run_reverse_daam``.

What is other than in rdaam 0.1.0 (Muhammad Ahmad Waseem), and why, is in
``docs/migrating_rdaam.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.rdaam.comparison import DAAMComparison, compare_daam
from diffusers_rdaam.compat.rdaam.hooks import AttentionHookManager, remove_hooks
from diffusers_rdaam.compat.rdaam.logs import setup_logger
from diffusers_rdaam.compat.rdaam.maps import extract_bbox_distribution, process_attention_maps
from diffusers_rdaam.compat.rdaam.quantitative import (
    analyze_annotations,
    calculate_bbox_score,
    plot_results,
)
from diffusers_rdaam.compat.rdaam.runs import (
    ReverseDAAMAnalyzer,
    ReverseDAAMBatch,
    run_forward_daam,
    run_reverse_daam,
)

__all__ = [
    "AttentionHookManager",
    "DAAMComparison",
    "ReverseDAAMAnalyzer",
    "ReverseDAAMBatch",
    "analyze_annotations",
    "calculate_bbox_score",
    "compare_daam",
    "extract_bbox_distribution",
    "plot_results",
    "process_attention_maps",
    "remove_hooks",
    "run_forward_daam",
    "run_reverse_daam",
    "setup_logger",
]
