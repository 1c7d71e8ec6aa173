"""Concepts over a transformer's image: ConceptAttention's formula, and the image as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import builders_flux
import builders_flux2
import builders_qwen
import builders_sd3
import numpy as np
import pytest
import torch
from concept_oracle import ConceptOracle, Scores
from dense_oracle import Case
from transformer_outcome import images, ours_of

from diffusers_rdaam import Attribution, RDAAMProcessor

TEXTS = ["a cat", "red barn", "sky"]
CASES: dict[str, Callable[[], Case]] = {
    "FLUX": partial(
        builders_flux._case, "FluxPipeline", guided=True, num_layers=2, num_single_layers=2
    ),
    "FLUX, embedded guidance": builders_flux.CASES["FluxPipeline, embedded guidance"],
    "FLUX, two images": builders_flux.CASES["FluxPipeline, two images"],
    "FLUX, reference": builders_flux.CASES["FluxKontextPipeline, true guidance"],
    "SD3": builders_sd3.CASES["StableDiffusion3Pipeline"],
    "FLUX.2": builders_flux2.CASES["Flux2Pipeline"],
    "FLUX.2 klein, reference": builders_flux2.CASES["Flux2KleinPipeline, reference"],
    "Qwen": builders_qwen.CASES["QwenImagePipeline"],
}


def recorded(case: Case, texts: Any = TEXTS, **options: Any) -> Any:
    """The output of our class with a vocabulary."""
    pipe = ours_of(case)
    pipe.set_attn_processor(RDAAMProcessor(**options))
    return case.run(pipe, attribution_vocabulary=texts)


def maps_of(attribution: Attribution, texts: Any = TEXTS, **selection: Any) -> torch.Tensor:
    """The maps of the concepts at the grid, ``(concepts, height, width)``."""
    maps = []
    for text in texts:
        part = attribution.vocabulary[text]
        part = part.select(**selection) if selection else part
        shares = zip(part.grids, part.grid_shares, strict=True)
        maps.append(sum(grid.maps[0] * share for grid, share in shares))
    return torch.stack(maps).double()


def is_of(scores: Scores, *, site: str, step: int) -> bool:
    return (scores.site, scores.step) == (site, step)


@pytest.mark.parametrize("name", CASES)
def test_maps_are_those_of_the_formula(name):
    case = CASES[name]()
    oracle = ConceptOracle(case, TEXTS)
    output = recorded(case, keep=("steps", "layers"))
    assert np.array_equal(images(output), images(oracle.output))
    for number, attribution in enumerate(output.attributions):
        wanted = oracle.maps(number)
        assert (maps_of(attribution) - wanted).abs().max() < 1e-5
        assert wanted.std(dim=(1, 2)).min() > 1e-4
        for site in attribution.vocabulary["sky"].layers:
            ours = maps_of(attribution, layers=[site], steps=1)
            theirs = oracle.maps(
                number, of=lambda one, site=site: (one.site, one.step) == (site, 1)
            )
            assert (ours - theirs).abs().max() < 1e-5
