"""One run of our pipeline for each prompt that the predecessors were run with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from safetensors import safe_open

from diffusers_rdaam import Attribution, StableDiffusionRDAAMPipeline

HERE = Path(__file__).parent
PROMPTS = ("p0_simple", "p2_repeated")
STEPS = 4


@dataclass(frozen=True)
class Stored:
    """A predecessor's results for a prompt."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @classmethod
    def load(cls, name: str) -> Stored:
        with safe_open(HERE / "data" / f"{name}.safetensors", "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            facts: dict[str, Any] = dict(file.metadata() or {})
        for key in ("words", "boxes"):
            if key in facts:
                facts[key] = json.loads(facts[key])
        return cls(tensors, facts)


@dataclass(frozen=True)
class Run:
    """Our attribution, and what no attribution holds: the sums over the steps of every head.

    ``heads`` are ``(sites * heads, tokens, height, width)`` by the grid's size.
    """

    attribution: Attribution
    heads: dict[tuple[int, int], torch.Tensor]


@cache
def run(text: str) -> Run:
    pipe = StableDiffusionRDAAMPipeline.from_pretrained(
        HERE.parent / "data" / "tiny_sd", safety_checker=None
    )
    pipe.set_progress_bar_config(disable=True)
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Any:
        def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            rows = slice(-1, None)
            query, key = (
                module.to_q(args[0][rows]),
                module.to_k(kwargs["encoder_hidden_states"][rows]),
            )
            query, key = (
                rearrange(part, "1 n (h d) -> h n d", h=module.heads) for part in (query, key)
            )
            logits = key @ query.transpose(-1, -2) * query.shape[-1] ** -0.5
            sums[name] = sums.get(name, 0.0) + torch.softmax(logits, dim=1)

        return note

    for name, module in pipe.unet.named_modules():
        if name.endswith("attn2"):
            module.register_forward_hook(hook(name), with_kwargs=True)
    latents = Stored.load("init").tensors["latents"]
    output = pipe(text, latents=latents, num_inference_steps=STEPS, guidance_scale=7.5)
    heads = {
        grid.size: torch.cat([sums[site] for site in grid.sites]).unflatten(-1, grid.size)
        for grid in output.attribution.grids
    }
    return Run(output.attribution, heads)


@pytest.fixture(params=PROMPTS)
def prompt(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def daam(prompt: str) -> Stored:
    return Stored.load(f"daam_{prompt}")


@pytest.fixture
def rdaam(prompt: str) -> Stored:
    return Stored.load(f"rdaam_{prompt}")


@pytest.fixture
def attribution(rdaam: Stored) -> Attribution:
    return run(rdaam.facts["prompt"]).attribution


@pytest.fixture
def heads(rdaam: Stored) -> dict[tuple[int, int], torch.Tensor]:
    return run(rdaam.facts["prompt"]).heads


@pytest.fixture(scope="session")
def close() -> Any:
    """Largest difference as a part of the stored map's largest value, at most 1e-4."""

    def check(ours: torch.Tensor, stored: torch.Tensor, tolerance: float = 1e-4) -> None:
        assert ours.shape == stored.shape
        assert stored.abs().max() > 0 and stored.std() > 0
        error = float((ours - stored).abs().max() / stored.abs().max())
        assert error <= tolerance

    return check
