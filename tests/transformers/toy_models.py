"""Text encoders, autoencoders and pictures at toy size, and where text and image are in a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from dense_oracle import DenoiserCall, ObservedCall
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

# In image tokens: higher than wide in no dimension by accident.
GRID = (4, 6)
TOKENS = 24
STEPS = 2


def seeded(make: Callable[..., Any], *args: Any, seed: int = 0, **config: Any) -> Any:
    """A module with random weights, the same each time, in evaluation mode."""
    torch.manual_seed(seed)
    return make(*args, **config).eval()


def sharpened(denoiser: Any, factor: float = 3.0) -> Any:
    """Queries scaled up, so that maps differ from row to row, and no layer of zeros."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in denoiser.named_parameters():
            if not weight.any() and weight.ndim > 1:
                weight.normal_(std=0.1)
            if name.endswith(("to_q.weight", "norm_q.weight", "add_q_proj.weight")):
                weight.mul_(factor)
    return denoiser.eval()


def clip_encoder(*, projected: bool = True, width: int = 32, seed: int = 2) -> Any:
    """A text encoder with the vocabulary of the tiny Stable Diffusion."""
    config = CLIPTextConfig(
        vocab_size=848,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=32,
        bos_token_id=846,
        eos_token_id=847,
        pad_token_id=847,
    )
    return seeded(CLIPTextModelWithProjection if projected else CLIPTextModel, config, seed=seed)


def t5_encoder(vocabulary: int, *, width: int = 32, model: Any = T5EncoderModel) -> Any:
    """A T5 encoder of two layers."""
    config_class = T5Config if model is T5EncoderModel else model.config_class
    config = config_class(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return seeded(model, config, seed=3)


def tiny_vae(channels: int, *, levels: int = 1, **config: Any) -> AutoencoderKL:
    """An autoencoder of ``levels`` levels: each one more halves the picture."""
    return seeded(
        AutoencoderKL,
        seed=4,
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **{"shift_factor": 0.06, "scaling_factor": 1.5} | config,
    )


def flow_scheduler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of nearly all of these pipelines."""
    return FlowMatchEulerDiscreteScheduler(**config)


def picture(height: int, width: int, seed: int = 7) -> Image.Image:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask_picture(height: int, width: int) -> Image.Image:
    """A mask of the left half."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[:, : width // 2] = 255
    return Image.fromarray(pixels)


def rows_of(call: DenoiserCall) -> int:
    """How many rows a call of the denoiser has."""
    return len(call.kwargs["hidden_states"])


def every_row(call: DenoiserCall) -> list[int]:
    """No guidance, or guidance that is an input of the model."""
    return list(range(rows_of(call)))


def second_half(call: DenoiserCall) -> list[int]:
    """Rows ``[unconditional, conditional]``."""
    return every_row(call)[rows_of(call) // 2 :]


def even_calls(call: DenoiserCall) -> list[int]:
    """One call for the prompt, the next for the negative prompt."""
    return [] if call.number % 2 else every_row(call)


def text_first(
    *, skip: int = 0, behind: int = 0, tokens: int = TOKENS
) -> dict[str, Callable[[ObservedCall, int], Any]]:
    """Keys ``[skip, text, image, behind]``; queries the same."""

    def text_keys(call: ObservedCall, row: int) -> list[int]:
        return list(range(skip, call.key.shape[2] - tokens - behind))

    def image_queries(call: ObservedCall, row: int) -> int:
        return call.query.shape[2] - tokens - behind

    return {"text_keys": text_keys, "image_queries": image_queries}


def image_first(*, tokens: int = TOKENS) -> dict[str, Callable[[ObservedCall, int], Any]]:
    """Keys ``[image, text]``; queries the same."""

    def text_keys(call: ObservedCall, row: int) -> list[int]:
        return list(range(tokens, call.key.shape[2]))

    return {"text_keys": text_keys}
