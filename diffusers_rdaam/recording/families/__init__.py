"""One small adapter per model family: what differs between architectures, and nothing else."""

from diffusers_rdaam.recording.families.base import DenoiserCall, Family, family_of

__all__ = ["DenoiserCall", "Family", "family_of"]
