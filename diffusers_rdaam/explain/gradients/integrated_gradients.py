"""Integrated gradients: along the straight path from an empty prompt's embedding to the prompt's.

Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks (2017), equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusers_rdaam.explain.explained import Embeddings, without_words
from diffusers_rdaam.explain.gradients.reductions import reduce_entries
from diffusers_rdaam.explain.gradients.regeneration import (
    GradientOptions,
    GradientRegeneration,
    RegionGradient,
    entries_last,
)
from diffusers_rdaam.explain.regeneration import ReplayedNoise
from diffusers_rdaam.geometry.region import Region
from diffusers_rdaam.recording.announce import print_line


class _EndRegeneration(GradientRegeneration):
    """A generation at an end of the path: its embeddings, those of no words, and its values."""

    ends: tuple[Embeddings, Embeddings]

    def encode(self, stock: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            self.ends = (
                self.places.embeddings(without_words(stock, args, kwargs)),
                self.places.embeddings(stock(*args, **kwargs)),
            )
        return super().encode(stock, *args, **kwargs)


def integrate(
    pipe: Any,
    settings: GradientOptions,
    regions: Sequence[Region | None],
    noise: ReplayedNoise,
    arguments: dict[str, Any],
    path_steps: int,
) -> list[RegionGradient]:
    """The mean gradient along the path, times its length, for each region.

    Two generations tell the values at the ends; one at each of ``path_steps`` places (of Gauss and
    Legendre) is differentiated, once for each region.
    """
    values_only = replace(settings, values_only=True)
    end = _EndRegeneration(pipe, values_only, regions)
    image = end.picture(end.run(noise.again(arguments)))
    baseline, prompt = end.ends
    start = GradientRegeneration(pipe, values_only, regions, embeddings=baseline)
    start.run(noise.again(arguments))
    places, weights = np.polynomial.legendre.leggauss(path_steps)
    sums: list[dict[str, Tensor]] = [{} for _ in regions]
    memory = None
    for index, (place, weight) in enumerate(zip(places, weights, strict=True)):
        regeneration = GradientRegeneration(
            pipe,
            settings,
            regions,
            embeddings=_between(baseline, prompt, float(place + 1.0) / 2.0),
            announce=(lambda text: print_line(text, pipe)) if index == 0 else None,
        )
        regeneration.run(noise.again(arguments))
        memory = regeneration.memory or memory
        for total, gradients in zip(sums, regeneration.gradients(), strict=True):
            for name, gradient in gradients.items():
                total[name] = total.get(name, 0.0) + gradient * float(weight) / 2.0
    found = []
    for region, total in enumerate(sums):
        scores = {
            name: reduce_entries(
                "integrated_gradients", entries_last(total[name]), entries_last(length)
            )
            for name, length in _lengths(baseline, prompt, total["text"].dtype).items()
        }
        difference = float(end.value(region) - start.value(region))
        whole = sum(float(score.cpu().double().sum()) for score in scores.values())
        more: dict[str, Any] = {
            "delta": (whole - difference) / difference if difference else float("inf"),
            "difference": difference,
            "memory": memory,
        }
        if "pooled" in scores:
            more["pooled"] = float(scores["pooled"])
        found.append(RegionGradient(scores["text"], image, more))
    return found


def _between(baseline: Embeddings, prompt: Embeddings, place: float) -> Embeddings:
    text, pooled = (
        None if low is None or high is None else torch.lerp(low, high, place)
        for low, high in zip(baseline, prompt, strict=True)
    )
    assert text is not None
    return text, pooled


def _lengths(baseline: Embeddings, prompt: Embeddings, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        name: high.to(dtype) - low.to(dtype)
        for name, low, high in zip(("text", "pooled"), baseline, prompt, strict=True)
        if low is not None and high is not None
    }
