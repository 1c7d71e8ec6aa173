"""The sizes of Stable Diffusion 1.5 and XL, so that costs can be measured without their weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from diffusers_rdaam.families.unet import UNetFamily

TINY_PIPELINE = Path(__file__).parent.parent / "tests" / "data" / "tiny_sd"
TOKENS = 77
PROMPT = "a photograph of a cat with blue eyes next to a dog in a red hat, on a wooden table"


@dataclass(frozen=True)
class Model:
    """A released model's UNet, as its configuration file has it.

    Args:
        name: of the model.
        config: what differs from the defaults of ``UNet2DConditionModel``.
        narrow: what makes it cheap and leaves its blocks, heads and grids.
        latent: height and width that the model was trained for.
        conditions: shapes of one row of further inputs, by name.
    """

    name: str
    config: dict[str, Any]
    narrow: dict[str, Any]
    latent: tuple[int, int]
    conditions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def image(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.latent
        return (8 * height, 8 * width)

    @property
    def size_text(self) -> str:
        """``"512x512"``: width and height in pixels."""
        height, width = self.image
        return f"{width}x{height}"

    def inputs(self, rows: int) -> dict[str, Any]:
        """Arguments of a denoiser call with random latents and text."""
        inputs: dict[str, Any] = {
            "sample": torch.randn(rows, 4, *self.latent),
            "timestep": torch.tensor(500),
            "encoder_hidden_states": torch.randn(rows, TOKENS, self.config["cross_attention_dim"]),
        }
        if self.conditions:
            inputs["added_cond_kwargs"] = {
                name: torch.randn(rows, *shape) for name, shape in self.conditions.items()
            }
        return inputs


# With 8 heads at every level; the configuration calls their number attention_head_dim.
SD15 = Model(
    name="SD1.5",
    config={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    narrow={"block_out_channels": (32, 64, 128, 128)},
    latent=(64, 64),
)

# With 5, 10 and 20 heads of 64 channels.
SDXL = Model(
    name="SDXL",
    config={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    },
    narrow={"block_out_channels": (20, 40, 80), "norm_num_groups": 4},
    latent=(128, 128),
    conditions={"text_embeds": (1280,), "time_ids": (6,)},
)


def unet_without_memory(model: Model = SD15) -> UNet2DConditionModel:
    """All parameters on the ``meta`` device: shapes and modules, no numbers."""
    with torch.device("meta"):
        return UNet2DConditionModel(**model.config).eval()


def narrow_unet(model: Model = SD15) -> UNet2DConditionModel:
    """The same blocks, heads and grids with a fraction of the channels, random weights."""
    return UNet2DConditionModel(**model.config | model.narrow).eval().requires_grad_(False)


def site_grids(
    unet: UNet2DConditionModel, latent: tuple[int, int] = SD15.latent
) -> dict[str, tuple[int, int]]:
    """Height and width of each recorded site's grid, as recording itself finds them."""
    family = UNetFamily()
    return {site.name: family.grid(site, latent) for site in family.sites(unet)}


def fill_with_noise(module: torch.nn.Module, device: str = "cpu") -> torch.nn.Module:
    """Give a module from the ``meta`` device memory and random weights of a usual size."""
    module.to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return module
