"""Every pipeline class takes the image that it is given, and records one attribution an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from image_cases import CASES, ImageCase
from PIL import Image
from torch import Tensor

from diffusers_rdaam import UnsupportedPipelineError, attribute_image
from diffusers_rdaam.families.registry import RECORDED
from diffusers_rdaam.images.attribute import ImageRequest, ImageRun
from diffusers_rdaam.images.input_images import as_pixels
from diffusers_rdaam.images.latent_layouts import LATENT_LAYOUTS, NOT_ATTRIBUTED, mode_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated"),
    pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated"),
]
# These in every run of the tests, the others in the slow ones.
MOST_USED = (
    "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline, nine channels", "FluxPipeline", "Flux2Pipeline",
    "StableDiffusion3Pipeline", "QwenImagePipeline", "PixArtSigmaPipeline", "SanaPipeline",
    "ZImagePipeline", "FluxInpaintPipeline",
)  # fmt: skip
NAMES = [pytest.param(name, marks=() if name in MOST_USED else pytest.mark.slow) for name in CASES]


def test_every_recorded_class_is_attributed_or_says_why_not():
    assert set(LATENT_LAYOUTS) | set(NOT_ATTRIBUTED) == set(RECORDED)
    assert not set(LATENT_LAYOUTS) & set(NOT_ATTRIBUTED)
    assert set(LATENT_LAYOUTS) == {name.split(",")[0] for name in CASES}


class _Enough(Exception):
    """The run that is looked at is over."""


@pytest.mark.parametrize("name", NAMES)
def test_what_the_loop_has_is_what_its_own_decoder_makes_the_image_of(name):
    case = CASES[name]()
    pipe = case.make()
    seen: list[Any] = []

    def plain(clone: Any, arguments: dict[str, Any]) -> Any:
        seen.append(next(iter(clone(**arguments).values())))
        raise _Enough

    request = ImageRequest(
        method="invert",
        steps=1,
        solver="euler",
        size=case.size,
        pipeline_image=case.pipeline_image,
        call=case.call,
    )
    with pytest.raises(_Enough):
        ImageRun(pipe, request, record=_never, plain=plain).attribute(case.images, case.prompts)
    torch.testing.assert_close(_as_tensor(seen[0]), reconstructed(pipe, case), rtol=0, atol=2e-4)


def _never(clone: Any, arguments: dict[str, Any]) -> Any:
    raise AssertionError("the image was to be inverted first")


def _as_tensor(images: Any) -> Tensor:
    if isinstance(images, Tensor):
        return images.float()
    # Latent diffusion's first pipeline has arrays alone.
    return torch.from_numpy(images).movedim(-1, 1)


@torch.no_grad()
def reconstructed(pipe: Any, case: ImageCase) -> Tensor:
    """What the autoencoder makes of the images, without any scale or layout between.

    That a decoder tells latents in other places from these is seen, too. Qwen-Image's at toy size
    hardly does; its layout is compared in test_dense_levels.py, and by Krea 2, which shares it.
    """
    vae = pipe.vqvae if hasattr(pipe, "vqvae") else pipe.vae
    pixels = as_pixels(case.images)
    has_frames = type(vae).__name__ == "AutoencoderKLQwenImage"
    pixels = pixels.unsqueeze(2) if has_frames else pixels
    latents = mode_of(vae.encode(pixels))
    if case.name == "StableDiffusion3InpaintPipeline":
        # It takes the shift off where it encodes, and does not put it on again where it decodes.
        latents = latents - vae.config.shift_factor
    decoded = vae.decode(latents).sample
    moved = vae.decode(latents.roll(1, dims=-1)).sample
    assert "Qwen" in case.name or float((decoded - moved).abs().max()) > 0.05
    decoded = decoded.squeeze(2) if has_frames else decoded
    return (decoded / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_has_an_attribution(name):
    case = CASES[name]()
    pipe = case.make()
    before = dict(vars(pipe))
    state = torch.random.get_rng_state()
    found = attribute_image(
        pipe, case.images, list(case.prompts), noise=(0.3, 0.6), draws=1, **case.options
    )
    # Some pipelines draw the latents of a control image without the call's generator.
    assert "control_image" in case.call or torch.equal(torch.random.get_rng_state(), state)
    assert vars(pipe) == before
    assert len(found) == len(case.prompts)
    for attribution, image, prompt in zip(found, case.images, case.prompts, strict=True):
        assert attribution.prompt.text == prompt
        assert attribution.image_size == case.size
        assert np.array_equal(attribution.image, image)
        run = attribution.run
        assert (run["method"], run["denoiser_calls"], run["draws"]) == ("forward", 2, 1)
        assert run["scheduler"] == type(pipe.scheduler).__name__
        assert attribution.mask is None
        for grid in attribution.grids:
            total = grid.maps.double().sum(dim=0)
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=2e-5)
    first, second = found[0].grids[0].maps, found[-1].grids[0].maps
    assert len(found) == 1 or first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("WanPipeline", "it makes videos"),
        ("IFPipeline", "its denoiser works on pixels, and it has no autoencoder"),
        ("SanaSprintPipeline", "its timesteps are angles"),
        ("Kandinsky5T2IPipeline", "its latents have an axis of frames"),
    ],
)
def test_a_class_that_is_not_attributed_says_why(name, why):
    pipe = type(name, (_Stock,), {"__module__": "diffusers.pipelines"})()
    with pytest.raises(UnsupportedPipelineError, match=f"^{name} cannot attribute .*: {why}"):
        ImageRun(pipe, ImageRequest(), record=_never, plain=_never)


class _Stock:
    """A pipeline of which only the class is looked at."""


def test_what_is_outside_of_a_mask_is_noised_as_the_rest():
    """Inpainting puts other latents there after each step, which would be of another level."""
    case = CASES["StableDiffusionInpaintPipeline"]()
    mask = np.zeros(case.size, dtype=np.uint8)
    mask[:, :48] = 255
    options = case.options | {"noise": (0.3, 0.6), "draws": 1}
    masked, whole = (
        attribute_image(case.make(), case.images, list(case.prompts), **options, **more)
        for more in ({"mask_image": Image.fromarray(mask)}, {})
    )
    assert masked[0].mask is not None and whole[0].mask is None
    for one, other in zip(masked, whole, strict=True):
        torch.testing.assert_close(one.grids[0].maps, other.grids[0].maps)
