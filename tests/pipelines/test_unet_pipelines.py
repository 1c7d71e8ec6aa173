"""Every UNet pipeline: the stock image bit for bit, and the maps of the conditional rows."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from oracle import check, expected, watched
from toys import ALL_CASES, CASES, NINE, PROMPT, SITES, Case, call, picture, toy

from diffusers_rdaam.families.layouts import PIPELINES

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]
WIDE = [pytest.param(case, id=f"{name}, 9 channels") for name, case in NINE.items()]
PROMPTS = [PROMPT, "two blue dogs, on the mat"]


def same_images(one: Any, other: Any) -> bool:
    pairs = list(zip(one.images, other.images, strict=True))
    return bool(pairs) and all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def test_every_supported_class_has_a_case():
    # Latent diffusion's toy has BERT's tokenizer, and is among the transformers'.
    wanted = set(PIPELINES) - {"LDMTextToImagePipeline"}
    assert {case.stock.__name__ for case in ALL_CASES.values()} == wanted


@pytest.mark.parametrize("case", ALL)
def test_signatures_are_stock(case):
    for name in ("__call__", "__init__"):
        ours, stock = (inspect.signature(getattr(cls, name)) for cls in (case.ours, case.stock))
        assert ours == stock
    assert case.ours.__mro__[2] is case.stock


@pytest.mark.values
@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("case", [*ALL, *WIDE])
def test_image_and_maps(case: Case, guidance):
    stock, ours = toy(case)
    with watched(ours) as seen:
        output = call(case, ours, guidance_scale=guidance)
    assert same_images(output, call(case, stock, guidance_scale=guidance))
    rows = {len(query) for pairs in seen.values() for query, _ in pairs}
    guided = guidance > 1 and not case.always
    assert rows == {(3 if case.first else 2) if guided else 1}
    check(output.attributions, seen, SITES, case.first)
    attribution = output.attribution
    assert attribution.image is output.images[0] and attribution.image_size == (64, 96)
    assert [grid.size for grid in attribution.grids] == [(4, 6)]
    assert [word.text for word in attribution.words] == PROMPT.split()
    assert attribution.run["denoiser_calls"] == 2
    assert attribution.run["pipeline"] == case.ours.__name__


BATCHED = ["StableDiffusionImg2Img", "StableDiffusionXL", "StableDiffusionXLInpaint"]
BATCHED += ["StableDiffusionXLControlNet", "StableDiffusionInstructPix2Pix"]
BATCHED += ["StableDiffusionXLInstructPix2Pix", "LatentConsistencyModel"]


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("name", BATCHED)
def test_two_prompts_with_two_images_each(name, guidance):
    case = CASES[name]
    stock, ours = toy(case)
    settings = {"num_images_per_prompt": 2, "guidance_scale": guidance, "output_type": "latent"}
    if name in ("StableDiffusionImg2Img", *BATCHED[-3:-1]):
        # diffusers would repeat fewer images too, but warns that it will stop doing so.
        settings["image"] = [picture(seed) for seed in range(4)]
    with watched(ours) as seen:
        output = call(case, ours, PROMPTS, **settings)
    latents = call(case, stock, PROMPTS, **settings).images
    assert output.images.shape == (4, 4, 8, 12) and torch.equal(output.images, latents)
    check(output.attributions, seen, SITES, case.first)
    assert [a.prompt.text for a in output.attributions] == [p for p in PROMPTS for _ in range(2)]
    for attribution in output.attributions:
        assert attribution.image is None and attribution.image_size == (64, 96)


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if not case.always], ids=lambda it: it.name
)
def test_rows_of_one_call_are_far_apart(case):
    """Otherwise the tests above would see no difference between two layouts."""
    _, ours = toy(case)
    with watched(ours) as seen:
        call(case, ours)
    first, last = (expected(seen, 1, first)[24][0] for first in (True, False))
    assert (first - last).abs().max() > 1e-2


@pytest.mark.parametrize("case", ALL)
def test_tuples_stay_tuples(case):
    stock, ours = toy(case)
    results = [call(case, pipe, return_dict=False) for pipe in (ours, stock)]
    assert type(results[0]) is type(results[1]) is tuple
    assert len(results[0]) == len(results[1]) == (1 if case.xl else 2)
    assert np.array_equal(*(np.asarray(result[0][0]) for result in results))
    assert ours.attribution.image is results[0][0][0]


@pytest.mark.parametrize("case", [*ALL[:1], *ALL[6:7], *ALL[-1:]])
def test_half_precision(case):
    # Copies: the toys' weights would come back rounded.
    stock, ours = (copy.deepcopy(pipe).to(torch.bfloat16) for pipe in toy(case))
    with watched(ours) as seen:
        output = call(case, ours, output_type="latent")
    assert output.images.dtype == torch.bfloat16
    assert torch.equal(output.images, call(case, stock, output_type="latent").images)
    check(output.attributions, seen, SITES)
