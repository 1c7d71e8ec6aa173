"""Allegro: cross-attention over T5 in videos, padding masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AutoencoderKLAllegro,
    DDIMScheduler,
)
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    rows_after,
    t5_encoder,
    wake,
)
from tokenizers_single import t5_tokenizer

# 16 x 16 pixels and 4 frames are one token.
GRID = (2, 2, 3)


def _vae() -> Any:
    torch.manual_seed(44)
    vae = AutoencoderKLAllegro(
        down_block_types=("AllegroDownBlock3D",) * 4,
        up_block_types=("AllegroUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    ).eval()
    # It decodes in tiles only.
    vae.enable_tiling()
    return vae


def _pipeline() -> Any:
    tokenizer = t5_tokenizer()
    torch.manual_seed(0)
    transformer = AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        cross_attention_dim=24,
        sample_width=8,
        sample_height=8,
        sample_frames=8,
        caption_channels=32,
    )
    return AllegroPipeline(
        tokenizer=tokenizer,
        text_encoder=t5_encoder(tokenizer),
        vae=_vae(),
        transformer=wake(transformer, sharp=("attn2.to_q.weight", "attn2.to_k.weight")),
        scheduler=DDIMScheduler(),
    )


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    # There is an axis for the prompts of one row.
    states = kwargs["encoder_hidden_states"].clone()
    states[row, 0, column] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {"encoder_hidden_states": states}


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 8,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
            "clean_caption": False,
        }
        | call,
        GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        text_keys=columns_from(0),
        disturb=_disturb,
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        states=lambda kwargs, row: kwargs["encoder_hidden_states"][row, 0],
        **fields,
    )


def allegro() -> Case:
    return _case(
        "AllegroPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def allegro_without_guidance() -> Case:
    return _case("AllegroPipeline without guidance", {"guidance_scale": 1.0})


CASES: dict[str, Callable[[], Case]] = {
    "AllegroPipeline": allegro,
    "AllegroPipeline without guidance": allegro_without_guidance,
}
