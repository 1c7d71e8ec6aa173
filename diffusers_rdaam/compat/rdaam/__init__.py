"""rdaam's names on this package: ``from diffusers_rdaam.compat.rdaam import run_reverse_daam``.

What is other than in rdaam 0.1.0 (Muhammad Ahmad Waseem), and why, is in ``docs/migrating.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.rdaam.hooks import AttentionHookManager, remove_hooks
from diffusers_rdaam.compat.rdaam.logs import setup_logger
from diffusers_rdaam.compat.rdaam.maps import extract_bbox_distribution, process_attention_maps
from diffusers_rdaam.compat.rdaam.runs import (
    ReverseDAAMAnalyzer,
    ReverseDAAMBatch,
    run_forward_daam,
    run_reverse_daam,
)

__all__ = [
    "AttentionHookManager",
    "ReverseDAAMAnalyzer",
    "ReverseDAAMBatch",
    "extract_bbox_distribution",
    "process_attention_maps",
    "remove_hooks",
    "run_forward_daam",
    "run_reverse_daam",
    "setup_logger",
]
