"""The tokens of the demo's classes, which come with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffusers_rdaam import load_demo_pipeline, load_tokens
from diffusers_rdaam.demo.judge import find_blobs
from diffusers_rdaam.evaluation.metrics.overlap import intersection_over_union
from diffusers_rdaam.segmentation.classes import object_classes
from diffusers_rdaam.segmentation.tokens import DEMO_TOKENS, token_heat_maps


@pytest.fixture(scope="module")
def tokens():
    return load_tokens("demo")


def test_there_is_one_for_each_class_and_they_are_small(tokens):
    assert list(tokens) == [one.name for one in object_classes("demo")]
    for name, token in tokens.items():
        assert token.prompt.text == name and token.loss < token.losses[0]
        assert bool(torch.isfinite(token.embedding).all())
    assert sum(path.stat().st_size for path in DEMO_TOKENS.iterdir()) < 50_000


def test_they_find_their_objects_in_images_that_they_were_not_fitted_to(tokens):
    pipe = load_demo_pipeline()
    output = pipe(
        ["a green heart and a magenta circle", "a red cross and a blue triangle"],
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in (61_003, 61_004)],
        attribution_vocabulary=list(tokens.values()),
    )
    own, other = [], []
    for attribution in output.attributions:
        blobs = find_blobs(attribution.image)
        assert len(blobs) == 2
        maps = token_heat_maps(attribution, tokens)
        for one, another in (blobs, blobs[::-1]):
            found = maps[one.shape].sharpened().mask().numpy()
            own.append(intersection_over_union(found, one.mask))
            other.append(intersection_over_union(found, another.mask))
    # 0.66 of 48 objects in the benchmark, and 0.1 for a mask of everything.
    assert np.mean(own) > 0.4 and np.mean(own) > 2 * np.mean(other)
