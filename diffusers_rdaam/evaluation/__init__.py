"""Evaluation of attention maps against masks: data sets on disk, published protocols, metrics.

The public names are those of the package itself, ``from diffusers_rdaam import evaluate``; they can
be read here as well, and nothing is imported until one is.
"""

from __future__ import annotations

import importlib

_NAMES = (
    "ClassName",
    "DataSet",
    "Evaluation",
    "EvaluationTable",
    "Maps",
    "Protocol",
    "Sample",
    "Target",
    "drawn_scenes",
    "evaluate",
    "generated_scenes",
    "open_dataset",
    "protocols",
    "tune_threshold",
    "write_dataset",
)


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("diffusers_rdaam"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
