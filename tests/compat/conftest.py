"""The predecessors' results, and our runs of the same model with the compatible calls."""

from __future__ import annotations

from typing import Any

import matplotlib
import pytest
import torch
from predecessors import stock, tensors

from diffusers_rdaam import load_demo_pipeline

PROMPT = "a photo of a cat sitting on a red chair"

# No window, and nothing that tests could wait for.
matplotlib.use("Agg")


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
