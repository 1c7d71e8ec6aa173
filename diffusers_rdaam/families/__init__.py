"""One small adapter per model family: what differs between architectures, and nothing else."""

from diffusers_rdaam.families.family import DenoiserCall, Family
from diffusers_rdaam.families.outputs import check_arguments, images_of
from diffusers_rdaam.families.registry import family_of

__all__ = ["DenoiserCall", "Family", "check_arguments", "family_of", "images_of"]
