"""Which words made this region of a generated image, and which regions this word made.

Names are loaded on first use, so that ``import diffusers_rdaam`` takes milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Attribution": "diffusers_rdaam.attribution.attribution",
    "Box": "diffusers_rdaam.geometry.region",
    "HeatMap": "diffusers_rdaam.attribution.heat_map",
    "Mask": "diffusers_rdaam.geometry.region",
    "Polygon": "diffusers_rdaam.geometry.region",
    "RDAAMError": "diffusers_rdaam.errors",
    "RDAAMPipelineMixin": "diffusers_rdaam.pipelines.mixin",
    "RDAAMProcessor": "diffusers_rdaam.recording.processor",
    "RDAAMWarning": "diffusers_rdaam.errors",
    "RegionWords": "diffusers_rdaam.attribution.region_words",
    "StableDiffusionRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "load_demo_pipeline": "diffusers_rdaam.demo.loader",
    "record_attention": "diffusers_rdaam.pipelines.record",
}

__all__ = [
    "Attribution",
    "Box",
    "HeatMap",
    "Mask",
    "Polygon",
    "RDAAMError",
    "RDAAMPipelineMixin",
    "RDAAMProcessor",
    "RDAAMWarning",
    "RegionWords",
    "StableDiffusionRDAAMPipeline",
    "__version__",
    "load_demo_pipeline",
    "record_attention",
]

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.heat_map import HeatMap
    from diffusers_rdaam.attribution.region_words import RegionWords
    from diffusers_rdaam.demo.loader import load_demo_pipeline
    from diffusers_rdaam.errors import RDAAMError, RDAAMWarning
    from diffusers_rdaam.geometry.region import Box, Mask, Polygon
    from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
    from diffusers_rdaam.pipelines.record import record_attention
    from diffusers_rdaam.pipelines.stable_diffusion import StableDiffusionRDAAMPipeline
    from diffusers_rdaam.recording.processor import RDAAMProcessor


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'diffusers_rdaam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
