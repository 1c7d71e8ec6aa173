"""Stable Diffusion 1.5's sizes, so that costs can be measured without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from diffusers_rdaam.recording.families.unet import UNetFamily

TINY_PIPELINE = Path(__file__).parent.parent / "tests" / "data" / "tiny_sd"
LATENT = (64, 64)
IMAGE = (512, 512)
TOKENS = 77
TEXT_WIDTH = 768
HEADS = 8
PROMPT = "a photograph of a cat with blue eyes next to a dog in a red hat, on a wooden table"

CONFIG: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": HEADS,
}


def unet_without_memory() -> UNet2DConditionModel:
    """The 860 million parameters on the ``meta`` device: shapes and modules, no numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(**CONFIG).eval()


def narrow_unet() -> UNet2DConditionModel:
    """The same blocks, heads and grids with a tenth of the channels, random weights."""
    channels = (32, 64, 128, 128)
    narrow = UNet2DConditionModel(**CONFIG | {"block_out_channels": channels})
    return narrow.eval().requires_grad_(False)


def site_grids(unet: UNet2DConditionModel) -> dict[str, tuple[int, int]]:
    """Height and width of each recorded site's grid, as recording itself finds them."""
    family = UNetFamily()
    return {site.name: family.grid(site, LATENT) for site in family.sites(unet)}


def fill_with_noise(module: torch.nn.Module) -> torch.nn.Module:
    """Give a module from the ``meta`` device memory and random weights of a usual size."""
    module.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return module
