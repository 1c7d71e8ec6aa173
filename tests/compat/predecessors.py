"""The predecessors' model, and what they computed on it, for tests that cannot take fixtures."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

TESTS = Path(__file__).parents[1]


@cache
def tensors(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a file under ``tests`` holds, and the facts in its metadata."""
    with safe_open(TESTS / path, "pt") as file:
        found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        facts = dict(file.metadata() or {})
    for key, value in facts.items():
        if value[:1] in "[{0123456789" and key not in ("version", "torch", "diffusers"):
            facts[key] = json.loads(value)
    return found, facts


@cache
def stock() -> Any:
    """The predecessors' model as diffusers loads it: nothing of ours is on it."""
    pipe = StableDiffusionPipeline.from_pretrained(TESTS / "data" / "tiny_sd", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe
