"""The maps of noised images are those of stock runs that begin at each level with its latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from dense_checks import StockRun, check_maps
from dense_oracle import Case, observed_attention, observed_ids
from image_cases import JOINT, SINGLE, picture
from torch import Tensor
from toy_models import every_row

from diffusers_rdaam import attribute_image

LEVELS = (0.26, 0.46)
DRAWS = 2


def two_by_two(latents: Tensor) -> Tensor:
    """FLUX's and Qwen's latents as their loops have them."""
    rows, channels, height, width = latents.shape
    latents = latents.view(rows, channels, height // 2, 2, width // 2, 2)
    return latents.permute(0, 2, 4, 1, 3, 5).reshape(rows, height * width // 4, channels * 4)


def flux(vae: Any, pixels: Tensor) -> Tensor:
    """Encoded, shifted and scaled as the configuration of the toy says, and packed."""
    return two_by_two((vae.encode(pixels).latent_dist.mode() - 0.06) * 1.5)


def stable_diffusion_3(vae: Any, pixels: Tensor) -> Tensor:
    """The same, not packed."""
    return (vae.encode(pixels).latent_dist.mode() - vae.config.shift_factor) * (
        vae.config.scaling_factor
    )


def qwen(vae: Any, pixels: Tensor) -> Tensor:
    """A frame of a video's autoencoder, normalised and packed."""
    latents = vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
    deviation = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)
    return two_by_two((latents - mean) / deviation)


UNGUIDED: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, float]]] = {
    "FluxPipeline": (flux, {}),
    "StableDiffusion3Pipeline": (stable_diffusion_3, {"guidance_scale": 1.0}),
    "QwenImagePipeline": (qwen, {"true_cfg_scale": 1.0}),
}


class StockLevels(StockRun):
    """One stock run of one step at each level, and the attention of all of them."""

    def __init__(self, case: Case, levels: tuple[float, ...], name: str) -> None:
        self.case = case
        self.pipe = case.make()
        latents_of, guidance = UNGUIDED[name]
        pixels = torch.stack([_pixels(image) for image in images(case)])
        with torch.no_grad():
            clean = latents_of(self.pipe.vae, pixels)
        shape = (len(levels) * DRAWS, *clean.shape[1:])
        noises = iter(torch.randn(shape, generator=torch.Generator().manual_seed(3)))
        denoisers = [getattr(self.pipe, one) for one in case.denoisers]
        with (
            observed_ids(self.pipe, case) as given,
            observed_attention(denoisers, case.sites) as calls,
        ):
            for level in levels:
                for _ in range(DRAWS):
                    latents = (1 - level) * clean + level * next(noises)
                    sigma = before_shift(self.pipe.scheduler.config.shift, level)
                    one_step = {"latents": latents, "sigmas": [sigma], "num_inference_steps": 1}
                    case.run(self.pipe, **one_step, **guidance)
        self.given, self.seen = given, calls


def before_shift(shift: float, level: float) -> float:
    """What a flow scheduler makes a level of, which shifts the sigmas that it is given."""
    return level / (shift - (shift - 1.0) * level)


def images(case: Case) -> list[Any]:
    """Two different images in the size of the case."""
    size = (case.call["height"], case.call["width"])
    return [picture(*size), picture(*size, seed=8)]


def _pixels(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1.0


@pytest.mark.parametrize("name", UNGUIDED)
def test_the_maps_are_the_dense_attention_at_the_levels(name):
    case = {**JOINT, **SINGLE}[name]()
    case = replace(case, rows=every_row, call=dict(case.call) | {"negative_prompt": None})
    stock = StockLevels(case, LEVELS, name)
    found = attribute_image(
        case.make(),
        images(case),
        list(case.call["prompt"]),
        noise=LEVELS,
        draws=DRAWS,
        size=(case.call["height"], case.call["width"]),
        generator=torch.Generator().manual_seed(3),
        **{name: case.call[name] for name in ("max_sequence_length",) if name in case.call},
    )
    assert len(stock.seen.denoiser_calls) == len(LEVELS) * DRAWS
    check_maps(stock, found)
