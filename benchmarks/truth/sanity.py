"""Sanity: maps of the same image by a model that was spoilt, and of a prompt that is not its own.

A run is replayed: after each step the latents are exchanged for those of the image's own run, so
that every denoiser call sees what it saw there, and the maps differ by the weights or the words
alone. What still finds the objects then owes nothing to what the model has learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.truth.models import Model
from benchmarks.truth.scenes import Names, Scene
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.demo.world import COLOURS, SHAPES

CHECKS = ("random queries and keys", "random text encoder", "another prompt")
# Random weights are drawn anew for so many parts of the scenes.
DRAWS = 4


def checked(
    model: Model, scenes: Sequence[Scene], check: str
) -> Iterator[tuple[Scene, Attribution, Names]]:
    """Each scene with its maps under a check, and the names to look for in them.

    Args:
        model: that made the scenes.
        scenes: with latents.
        check: one of :data:`CHECKS`.
    """
    parts = [scenes[start::DRAWS] for start in range(DRAWS)]
    for number, part in enumerate(parts):
        if not part:
            continue
        pipe = model.load(RDAAMProcessor())
        generator = torch.Generator().manual_seed(number)
        if check == "random queries and keys":
            spoil_attention(pipe, model, part[0].attribution.layers, generator)
        elif check == "random text encoder":
            spoil_encoders(pipe, model, generator)
        for scene in part:
            names = other_names(scene.names, scene.seed) if check == "another prompt" else None
            prompt = scene.prompt if names is None else f"a {names[0]} and a {names[1]}"
            yield scene, replay(pipe, model, scene, prompt), names or scene.names


def replay(pipe: Any, model: Model, scene: Scene, prompt: str) -> Attribution:
    """The attribution of a prompt along the latents of a scene's own run, without guidance."""
    latents = scene.latents
    assert latents is not None

    def put_back(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": latents[step][None].to(tensors["latents"])}

    call = model.call(steps=len(latents), guidance=1.0)
    output = pipe(
        prompt,
        generator=torch.Generator().manual_seed(scene.seed),
        callback_on_step_end=put_back,
        output_type="latent",
        **call,
    )
    found: Attribution = output.attributions[0]
    return found


def spoil_attention(
    pipe: Any, model: Model, sites: Sequence[str], generator: torch.Generator
) -> None:
    """Exchange the weights that make queries and keys at the recorded sites for random ones."""
    denoiser = getattr(pipe, model.denoiser)
    for site in sites:
        module = denoiser.get_submodule(site)
        for name in ("to_q", "to_k", "add_q_proj", "add_k_proj"):
            linear = getattr(module, name, None)
            if linear is not None:
                _randomise(linear.weight, generator)


def spoil_encoders(pipe: Any, model: Model, generator: torch.Generator) -> None:
    """Exchange all matrices of the text encoders for random ones."""
    for name in model.encoders:
        for weight in getattr(pipe, name).parameters():
            if weight.ndim > 1:
                _randomise(weight, generator)


@torch.no_grad()
def _randomise(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Numbers of a normal distribution with the weight's own mean and deviation."""
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
    weight.copy_(drawn * weight.float().std() + weight.float().mean())


def other_names(names: Names, seed: int) -> Names:
    """Two objects that share no colour and no shape with two others."""
    rng = np.random.default_rng(seed)
    known = {part for name in names for part in name.split()}
    colours = rng.permutation([colour for colour in COLOURS if colour not in known])[:2]
    shapes = rng.permutation([shape for shape in SHAPES if shape not in known])[:2]
    first, second = (f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True))
    return first, second
