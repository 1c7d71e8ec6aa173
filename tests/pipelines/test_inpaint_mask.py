"""``attribution.inpaint_mask`` is the mask that the pipeline painted with, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from toys import CASES, IMAGE, SIZE, build, call, mask, parts_of, picture

from diffusers_rdaam.errors import RegionError

NAMES = [name for name in CASES if name.endswith("Inpaint")]
NO_MASK = "This run had no mask, or one without white; only inpainting has one."
PROMPTS = ["a red cat", "two blue dogs"]


def box_mask(left: int, level: int = 255) -> Image.Image:
    pixels = np.zeros((64, 96), dtype=np.uint8)
    pixels[8:48, left : left + 30] = level
    return Image.fromarray(pixels)


def painted(pipe: Any) -> list[torch.Tensor]:
    """The masks ``(rows, 1, latent height, latent width)`` that the pipeline denoises with."""
    seen: list[torch.Tensor] = []
    prepare = pipe.prepare_mask_latents

    def noted(*args: Any, **kwargs: Any) -> Any:
        result = prepare(*args, **kwargs)
        seen.append(result[0])
        return result

    pipe.prepare_mask_latents = noted
    return seen


def at_latent_size(attribution: Any) -> torch.Tensor:
    weights = attribution.inpaint_mask.weights
    return torch.nn.functional.interpolate(weights[None, None], size=(8, 12))[0, 0]


@pytest.fixture(scope="module")
def inpaint() -> Any:
    case = CASES["StableDiffusionInpaint"]
    return case, build(case.ours, parts_of(case))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_the_pipeline_made_of_the_mask(name):
    case = CASES[name]
    pipe = build(case.ours, parts_of(case))
    seen = painted(pipe)
    attribution = call(case, pipe, guidance_scale=1.0).attribution
    wanted = pipe.mask_processor.preprocess(mask(), height=64, width=96)[0, 0]
    assert torch.equal(attribution.inpaint_mask.weights, wanted)
    assert torch.equal(at_latent_size(attribution), seen[0][0, 0])
    assert 0 < attribution.inside(attribution.inpaint_mask)["cat"] < 1
    inside = attribution.inside(attribution.inpaint_mask)
    outside = attribution.inside(~attribution.inpaint_mask)
    assert inside["cat"] + outside["cat"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("per_prompt", [1, 2])
def test_each_image_has_the_mask_that_it_was_painted_with(inpaint, guidance, per_prompt):
    case, pipe = inpaint
    seen = painted(pipe)
    output = call(
        case,
        pipe,
        PROMPTS,
        image=[picture(), picture(1)],
        mask_image=[box_mask(0), box_mask(60)],
        num_images_per_prompt=per_prompt,
        guidance_scale=guidance,
    )
    del pipe.prepare_mask_latents
    rows = seen[0][: 2 * per_prompt, 0]
    assert len(rows) == len(output.attributions) and not torch.equal(rows[0], rows[1])
    for attribution, row in zip(output.attributions, rows, strict=True):
        assert torch.equal(at_latent_size(attribution), row)


@pytest.mark.parametrize(
    "given",
    [
        box_mask(20, 127),
        box_mask(20, 128),
        np.asarray(box_mask(20), dtype=np.float32)[None, :, :, None] / 255,
        torch.from_numpy(np.asarray(box_mask(20), dtype=np.float32) / 255)[None, None],
        box_mask(20).resize((48, 32)),
    ],
    ids=["grey to black", "grey to white", "array", "tensor", "smaller"],
)
def test_masks_of_other_kinds(inpaint, given):
    case, pipe = inpaint
    attribution = call(case, pipe, mask_image=given).attribution
    wanted = pipe.mask_processor.preprocess(given, height=64, width=96)[0, 0]
    if wanted.any():
        assert torch.equal(attribution.inpaint_mask.weights, wanted)
    else:
        with pytest.raises(RegionError) as error:
            _ = attribution.inpaint_mask
        assert str(error.value) == NO_MASK


def test_a_black_mask_takes_no_other_away(inpaint):
    case, pipe = inpaint
    masks = [Image.new("L", (96, 64)), box_mask(20)]
    first, second = call(
        case, pipe, PROMPTS, image=[picture(), picture(1)], mask_image=masks
    ).attributions
    with pytest.raises(RegionError, match="or one without white"):
        _ = first.inpaint_mask
    assert second.inpaint_mask.weights.any() and first.words


def test_a_white_mask_leaves_nothing_out(inpaint):
    case, pipe = inpaint
    attribution = call(case, pipe, mask_image=Image.new("L", (96, 64), 255)).attribution
    assert bool((attribution.inpaint_mask.weights == 1).all())
    with pytest.raises(RegionError, match=r"^The mask covers the whole image"):
        _ = ~attribution.inpaint_mask


def test_there_is_none_without_inpainting():
    for name, settings in (("StableDiffusion", SIZE), ("StableDiffusionImg2Img", IMAGE)):
        case = CASES[name]
        attribution = call(case, build(case.ours, parts_of(case)), **settings).attribution
        with pytest.raises(RegionError) as error:
            _ = attribution.inpaint_mask
        assert str(error.value) == NO_MASK


def test_it_is_saved_and_loaded(inpaint, tmp_path):
    case, pipe = inpaint
    attribution = call(case, pipe).attribution
    again = type(attribution).load(attribution.save(tmp_path / "a.safetensors"))
    assert torch.equal(again.inpaint_mask.weights, attribution.inpaint_mask.weights)
