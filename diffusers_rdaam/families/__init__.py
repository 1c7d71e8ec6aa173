"""One small adapter per model family: what differs between architectures, and nothing else."""

from diffusers_rdaam.families.family import (
    DenoiserCall,
    Family,
    TextColumns,
    self_attention_sites_of,
    sites_of,
)
from diffusers_rdaam.families.outputs import images_of, inpaint_masks
from diffusers_rdaam.families.registry import family_of, family_of_module, pixels_per_latent
from diffusers_rdaam.families.rows import Branch, RowsOfBranches
from diffusers_rdaam.families.run_arguments import check_arguments

__all__ = [
    "Branch",
    "DenoiserCall",
    "Family",
    "RowsOfBranches",
    "TextColumns",
    "check_arguments",
    "family_of",
    "family_of_module",
    "images_of",
    "inpaint_masks",
    "pixels_per_latent",
    "self_attention_sites_of",
    "sites_of",
]
