"""The images are the stock pipeline's, bit for bit."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0

from diffusers_rdaam import StableDiffusionRDAAMPipeline

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SIZES = [(64, 96), (104, 168)]


def same(one: Any, other: Any) -> bool:
    """Equality of what a pipeline puts out, whatever its type."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.float().std() > 0
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def both(make: Any, generate: Any, *, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Any:
    results = []
    for parts in ({}, {"cls": StableDiffusionPipeline}):
        pipe = make(**parts, dtype=dtype)
        results.append(generate(pipe, **kwargs))
    return results


@pytest.mark.values
@pytest.mark.parametrize(
    ("dtype", "size"),
    # Half precision is slow on a processor.
    [(dtype, size) for dtype in DTYPES for size in SIZES if dtype != torch.float16 or size[0] < 99],
    ids=str,
)
@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("batch", [(1, 1), (2, 2)], ids=str)
def test_latents(make, generate, batch, guidance, size, dtype):
    prompts = ["a red cat near a house", "two dogs"][: batch[0]]
    ours, stock = both(
        make,
        generate,
        dtype=dtype,
        prompt=prompts,
        num_images_per_prompt=batch[1],
        guidance_scale=guidance,
        height=size[0],
        width=size[1],
        output_type="latent",
    )
    assert ours.images.shape == (batch[0] * batch[1], 4, size[0] // 8, size[1] // 8)
    assert torch.isfinite(ours.images).all()
    assert same(ours.images, stock.images)
    assert len(ours.attributions) == batch[0] * batch[1]
    assert ours.attributions[0].image is None
    assert ours.attributions[0].image_size == size


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_output_types(make, generate, output_type):
    settings = {"prompt": ["a cat", "a dog"], "output_type": output_type}
    ours, stock = both(make, generate, **settings)
    assert same(ours.images, stock.images)
    pictures = both(make, generate, prompt=settings["prompt"])[1].images
    for attribution, picture in zip(ours.attributions, pictures, strict=True):
        assert attribution.image_size == (64, 96)
        if output_type == "latent":
            assert attribution.image is None
        else:
            assert np.array_equal(np.asarray(attribution.image), np.asarray(picture))


@pytest.mark.parametrize("output_type", ["pil", "latent"])
def test_tuples_stay_tuples(make, generate, output_type):
    settings = {"return_dict": False, "output_type": output_type}
    ours, stock = both(make, generate, **settings)
    assert type(ours) is type(stock) is tuple and len(ours) == len(stock) == 2
    assert same(ours[0], stock[0]) and ours[1] is stock[1] is None
    pipe = make()
    images, _ = generate(pipe, **settings)
    assert len(images) == 1
    assert pipe.attribution.words[1].text == "red"


# Of numpy, about how diffusers' schedulers turn tensors into arrays.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("scheduler", "calls"),
    [
        ("PNDMScheduler", 4),
        ("EulerAncestralDiscreteScheduler", 3),
        ("DPMSolverMultistepScheduler", 3),
        ("UniPCMultistepScheduler", 3),
        ("HeunDiscreteScheduler", 5),
    ],
)
def test_schedulers(make, generate, loaded, scheduler, calls):
    cls = getattr(diffusers, scheduler)
    config = dict(loaded.scheduler.config) | {"skip_prk_steps": True}
    results = [
        generate(
            make(base, scheduler=cls.from_config(config)),
            num_inference_steps=3,
            output_type="latent",
        )
        for base in (StableDiffusionRDAAMPipeline, StableDiffusionPipeline)
    ]
    ours, stock = results
    assert same(ours.images, stock.images)
    assert ours.attribution.run["denoiser_calls"] == calls
    assert ours.attribution.run["scheduler"] == scheduler
    assert ours.attribution.run["num_inference_steps"] == 3
    # Every site at every call of the denoiser, whatever the scheduler calls a step.
    assert sum(grid.additions for grid in ours.attribution.grids) == 10 * calls


@pytest.mark.parametrize(
    "kwargs",
    [{"negative_prompt": "a blue house"}, {"guidance_rescale": 0.7}, {"eta": 0.5}],
    ids=lambda it: next(iter(it)),
)
def test_other_arguments(make, generate, kwargs):
    ours, stock = both(make, generate, **kwargs)
    assert same(ours.images, stock.images)
    assert ours.attribution.run["seed"] == 7
    assert ours.attribution.run["negative_prompt"] == kwargs.get("negative_prompt")


def test_a_generator_an_image(make, generate):
    results = []
    for cls in (StableDiffusionRDAAMPipeline, StableDiffusionPipeline):
        generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        results.append(generate(make(cls), ["a cat", "a dog"], generator=generators))
    ours, stock = results
    assert same(ours.images, stock.images)
    assert [attribution.run["seed"] for attribution in ours.attributions] == [5, 6]


def test_autocast(make, generate):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, stock = both(make, generate, output_type="latent")
    assert same(ours.images, stock.images)


def test_one_pipeline_recording_on_and_off(ours, generate):
    recorded = generate(ours, output_type="latent").images
    ours.set_attn_processor(AttnProcessor2_0())
    assert same(recorded, generate(ours, output_type="latent").images)
