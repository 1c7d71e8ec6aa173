"""Toy denoisers and the tokenizer of the tiny pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return CLIPTokenizer.from_pretrained(TINY / "tokenizer")


@pytest.fixture
def make_unet() -> Any:
    def make(**config: Any) -> UNet2DConditionModel:
        torch.manual_seed(0)
        down = config.pop("down_block_types", ("CrossAttnDownBlock2D", "DownBlock2D"))
        up = config.pop("up_block_types", ("UpBlock2D", "CrossAttnUpBlock2D"))
        small: dict[str, Any] = {
            "sample_size": 16,
            "block_out_channels": (8, 16, 16, 16)[: len(down)],
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "cross_attention_dim": 16,
            "attention_head_dim": 2,
        }
        unet = UNet2DConditionModel(down_block_types=down, up_block_types=up, **(small | config))
        return unet.eval()

    return make
