"""Attributions with all that a page can show, of random maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack, merge_details
from diffusers_rdaam.attribution.self_grid import SelfGrid

# A word that repeats, punctuation, and words of several tokens.
PROMPT = "a cat with blue eyes, on a red mat"
SITES = {"down.attn2": (8, 12), "mid.attn2": (2, 3), "up.attn2": (8, 12)}


@pytest.fixture(scope="session")
def full_attribution(make_attribution) -> Callable[..., Attribution]:
    """With steps and layers, self-attention, a negative prompt and another text."""

    def make(text: str = PROMPT, *, seed: int = 0) -> Attribution:
        plain = make_attribution(text, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        columns = len(plain.prompt.tokens)
        details = []
        for number, (site, size) in enumerate(SITES.items()):
            logits = 2.0 * torch.randn(4, 1, columns, *size, generator=generator)
            # At step 1 the sites were skipped, and at step 2 one of them.
            additions = (1, 0, min(number, 1), 1)
            details.append(MapStack(logits.softmax(dim=2), additions, (site,)))
        kept = KeptMaps(("steps", "layers"), tuple(details), (900.0, 700.0, 500.0, 300.0))
        sums = torch.rand(96, 96, generator=generator) + 4.0 * torch.eye(96)
        coarse = torch.rand(6, 6, generator=generator)
        self_grids = (
            SelfGrid(sums / sums.sum(dim=0) * 5, 5, (8, 12), ("down.attn1",)),
            SelfGrid(coarse / coarse.sum(dim=0) * 3, 3, (2, 3), ("mid.attn1",)),
        )
        other = make_attribution("a wooden table", image=False, seed=seed + 1)
        return replace(
            plain,
            grids=merge_details(kept.details),
            kept=kept,
            self_grids=self_grids,
            negative_attribution=make_attribution("a blurry dog", image=False, seed=seed + 2),
            vocabulary={"a wooden table": other},
        )

    return make


@pytest.fixture(scope="session")
def streams_attribution(make_attribution) -> Attribution:
    """A transformer's: two streams of one grid size, where text and image share a softmax."""
    plain = make_attribution("a red circle, a blue square", grids=((8, 12), (8, 12)))
    first, second = plain.grids
    grids = (
        Grid(first.maps, 19, ("blocks.0",), stream="double"),
        Grid(second.maps, 38, ("single.0",), stream="single"),
    )
    return replace(plain, grids=grids, run={**plain.run, "attention": "joint"})
