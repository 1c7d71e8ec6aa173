"""The predecessors' results, and our runs of the same model with the compatible calls."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from diffusers_rdaam import load_demo_pipeline

TESTS = Path(__file__).parents[1]
PROMPT = "a photo of a cat sitting on a red chair"

# No window, and nothing that tests could wait for.
matplotlib.use("Agg")


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


@pytest.fixture(scope="session")
def tiny() -> Any:
    return stock()


@pytest.fixture(scope="session")
def latents() -> torch.Tensor:
    return tensors("parity/data/init.safetensors")[0]["latents"]


@pytest.fixture(scope="session")
def demo() -> Any:
    """The embedded model, one of our own pipelines."""
    return load_demo_pipeline()


@pytest.fixture(scope="session")
def stored() -> Any:
    """A predecessor's file: tensors and facts."""
    return tensors


@pytest.fixture(scope="session")
def close() -> Any:
    """Largest difference as a part of the stored map's largest value, at most 1e-4."""

    def check(ours: torch.Tensor, theirs: torch.Tensor) -> None:
        assert ours.shape == theirs.shape
        assert theirs.abs().max() > 0 and theirs.std() > 0
        assert float((ours - theirs).abs().max() / theirs.abs().max()) <= 1e-4

    return check
