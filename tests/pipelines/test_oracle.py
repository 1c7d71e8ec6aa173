"""The maps against float64 attention, computed from the queries and keys of the run itself."""

from __future__ import annotations

import pytest
import torch
from oracle import check, watched

from diffusers_rdaam import RDAAMProcessor

PROMPTS = ["a red cat near a house", "two blue dogs, on the mat"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("size", [(64, 96), (104, 168)], ids=str)
def test_one_image(make, generate, size, guidance, dtype):
    pipe = make(dtype=dtype)
    height, width = size
    with watched(pipe) as seen:
        output = generate(pipe, height=height, width=width, guidance_scale=guidance)
    assert output.attribution.grids[0].size == (height // 8, width // 8)
    check(output.attributions, seen)


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_two_prompts_with_two_images_each(ours, generate, guidance):
    settings = {"guidance_scale": guidance, "num_images_per_prompt": 2}
    with watched(ours) as seen:
        output = generate(ours, PROMPTS, **settings)
    assert len(output.attributions) == len(output.images) == 4
    check(output.attributions, seen)
    assert [a.prompt.text for a in output.attributions] == [p for p in PROMPTS for _ in range(2)]
    for attribution, image in zip(output.attributions, output.images, strict=True):
        assert attribution.image is image


def test_an_image_has_the_attribution_that_it_has_alone(ours, generate):
    latents = torch.randn(4, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    together = generate(ours, PROMPTS, latents=latents, num_images_per_prompt=2)
    for index, attribution in enumerate(together.attributions):
        alone = generate(ours, PROMPTS[index // 2], latents=latents[index : index + 1]).attribution
        assert alone.prompt == attribution.prompt
        for one, other in zip(alone.grids, attribution.grids, strict=True):
            torch.testing.assert_close(one.maps, other.maps, rtol=1e-3, atol=1e-5)
    first, second, third, _ = together.attributions
    for one, other in ((first, second), (first, third)):
        assert (one.grids[0].maps - other.grids[0].maps).abs().max() > 1e-3


@pytest.mark.parametrize("images", [1, 2])
def test_guidance_is_switched_off_during_the_run(ours, generate, images):
    rows = []

    def cut(pipe, step, timestep, tensors):
        if step == 1:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    handle = ours.unet.register_forward_pre_hook(lambda m, args: rows.append(len(args[0])))
    with watched(ours) as seen:
        output = generate(
            ours,
            PROMPTS[:images],
            num_inference_steps=4,
            callback_on_step_end=cut,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
    handle.remove()
    assert rows == [2 * images, 2 * images, images, images]
    check(output.attributions, seen)
    assert output.attributions[0].run["denoiser_calls"] == 4


def test_every_pixel_sums_to_one_and_the_maps_are_not_flat(ours, generate):
    for grid in generate(ours).attribution.grids:
        torch.testing.assert_close(
            grid.maps.sum(dim=0), torch.ones(grid.size), rtol=1e-5, atol=1e-5
        )
        if grid.maps[0].numel() > 50:
            assert grid.maps.std(dim=(1, 2)).max() > 0.01


def test_backends_and_storages_agree(make, generate):
    results = []
    for options in ({}, {"backend": "reference"}, {"precision": "fp16"}):
        pipe = make()
        pipe.set_attn_processor(RDAAMProcessor(**options))
        results.append(generate(pipe).attribution)
    for other, rtol in ((results[1], 1e-4), (results[2], 2e-2)):
        for one, two in zip(results[0].grids, other.grids, strict=True):
            torch.testing.assert_close(one.maps, two.maps, rtol=rtol, atol=1e-6)


def test_autocast(ours, generate):
    with watched(ours) as seen, torch.autocast("cpu", dtype=torch.bfloat16):
        output = generate(ours)
    check(output.attributions, seen)


def test_inference_mode(ours, generate):
    plain = generate(ours).attribution
    with torch.inference_mode():
        inside = generate(ours, height=104, width=168).attribution
        again = generate(ours).attribution
    after = generate(ours, height=104, width=168).attribution
    for one, two in ((plain, again), (inside, after)):
        for a, b in zip(one.grids, two.grids, strict=True):
            assert torch.equal(a.maps, b.maps)
