"""OVAM's names on this package: replace ``ovam`` by ``diffusers_rdaam.compat.ovam`` in imports.

Marcos-Manchon et al. (2024), *Open-Vocabulary Attention Maps with Token Optimization for Semantic
Segmentation in Diffusion Models*. What is other than in vpulab/ovam 0.0.1, and why, is in
``docs/migrating_ovam.md``.
"""

from __future__ import annotations

from diffusers_rdaam.compat.ovam.annotation import (
    compute_masks,
    group_mask_by_label,
    load_sam_predictor,
    masks_to_tensor,
)
from diffusers_rdaam.compat.ovam.crf import dcrf_mask, densecrf
from diffusers_rdaam.compat.ovam.evaluator import StableDiffusionDAAM
from diffusers_rdaam.compat.ovam.experiments import (
    generate_binary_mask,
    write_synthetic_dataset,
    write_voc_sim,
)
from diffusers_rdaam.compat.ovam.optimize import optimize_embedding
from diffusers_rdaam.compat.ovam.stable_diffusion import StableDiffusionHooker
from diffusers_rdaam.compat.ovam.utils import expand_as, get_device, plot_overlay_heat_map, set_seed

# Theirs has self-attention in it, which was a constant.
StableDiffusionHookerSA = StableDiffusionHooker

__all__ = [
    "StableDiffusionDAAM",
    "StableDiffusionHooker",
    "StableDiffusionHookerSA",
    "compute_masks",
    "dcrf_mask",
    "densecrf",
    "expand_as",
    "generate_binary_mask",
    "get_device",
    "group_mask_by_label",
    "load_sam_predictor",
    "masks_to_tensor",
    "optimize_embedding",
    "plot_overlay_heat_map",
    "set_seed",
    "write_synthetic_dataset",
    "write_voc_sim",
]
