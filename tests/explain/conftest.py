"""Toy pipelines for explanations, those of tests/pipelines and tests/transformers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "transformers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
sys.path.insert(0, str(Path(__file__).parent))

from explained import EXPLAINED
from toys import PROMPT, Case, build, parts_of


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """A pipeline of a case, the stock class or ours, with parts of its own."""

    def make(case: Case | str = "StableDiffusion", *, ours: bool = False, **parts: Any) -> Any:
        chosen = EXPLAINED[case] if isinstance(case, str) else case
        # Some of a toy's parts are other tests' too, and tests here change their types.
        own = parts_of(chosen, **parts)
        return build(chosen.ours if ours else chosen.stock, own, own=own)

    return make


@pytest.fixture(scope="session")
def settings() -> Callable[..., dict[str, Any]]:
    """Arguments of a call with two steps, beside the prompt; a generator from a seed."""

    def settings(case: str = "StableDiffusion", *, seed: int = 7, **more: Any) -> dict[str, Any]:
        call = {"num_inference_steps": 2, "guidance_scale": 5.0} | EXPLAINED[case].call
        return call | {"generator": torch.Generator().manual_seed(seed)} | more

    return settings


@pytest.fixture(scope="session")
def prompt() -> str:
    return PROMPT
