"""Krea 2: one sequence, [prompt, padding, template's end, image]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import AutoencoderKLQwenImage, Krea2Pipeline, Krea2Transformer2DModel
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    columns_from,
    flow_scheduler,
    qwen3_vl_encoder,
    wake,
)
from toy_tokenizers import qwen2_tokenizer

GRID = (3, 5)
PREFIX = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n"
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
DROPPED = 34


def _vae() -> Any:
    torch.manual_seed(46)
    return AutoencoderKLQwenImage(
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def _pipeline() -> Any:
    tokenizer = qwen2_tokenizer(PREFIX, SUFFIX)
    torch.manual_seed(0)
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        timestep_embed_dim=8,
        text_hidden_dim=16,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
        rope_theta=1000.0,
    )
    pipe = Krea2Pipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=_vae(),
        text_encoder=qwen3_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=("to_q.weight", "to_k.weight")),
        text_encoder_select_layers=(0, 1, 2),
    )
    assert pipe.prompt_template_encode_prefix == PREFIX
    assert pipe.prompt_template_encode_suffix == SUFFIX
    assert pipe.prompt_template_encode_start_idx == DROPPED
    return pipe


def _without_refiner(denoiser: Any) -> None:
    denoiser.text_fusion.refiner_blocks = torch.nn.ModuleList()


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 24,
            "width": 40,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"single": r"transformer_blocks\.\d+\.attn"},
        image_queries=lambda call, row: COLUMNS,
        text_keys=columns_from(0),
        encoders=(Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - DROPPED),),
        # The first of the encoder's layers that the denoiser is given.
        states=lambda kwargs, row: kwargs["encoder_hidden_states"][row, :, 0],
        unmix=_without_refiner,
        **fields,
    )


def krea2() -> Case:
    """Calls of their own, conditional first."""
    return _case(
        "Krea2Pipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def krea2_without_guidance() -> Case:
    return _case("Krea2Pipeline without guidance", {"guidance_scale": 0.0})


CASES: dict[str, Callable[[], Case]] = {
    "Krea2Pipeline": krea2,
    "Krea2Pipeline without guidance": krea2_without_guidance,
}
