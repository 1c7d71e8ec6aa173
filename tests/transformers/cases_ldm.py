"""LDM text to image: a UNet's cross-attention over BERT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import DDIMScheduler, LDMTextToImagePipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import (
    LDMBertConfig,
    LDMBertModel,
)
from single_parts import PROMPTS, ToyCase, columns_from, image_vae, rows_after, rows_before, wake
from tokenizers_single import bert_tokenizer, vocabulary_size

# Of the level below the latents, 6 x 10.
GRID = (3, 5)


def _bert(tokenizer: Any) -> Any:
    torch.manual_seed(48)
    config = LDMBertConfig(
        vocab_size=vocabulary_size(tokenizer),
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=32,
    )
    return wake(LDMBertModel(config))


def _pipeline() -> Any:
    tokenizer = bert_tokenizer()
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return LDMTextToImagePipeline(
        vqvae=image_vae(4, 4),
        bert=_bert(tokenizer),
        tokenizer=tokenizer,
        unet=wake(unet, sharp=("attn2.to_q.weight", "attn2.to_k.weight")),
        scheduler=DDIMScheduler(),
    )


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 80,
            "output_type": "np",
        }
        | call,
        GRID,
        {"cross": r".*\.attn2"},
        text_keys=columns_from(0, 77),
        denoisers=("unet",),
        encoders=(Encoder("bert", "bert", "tokenizer", lambda place: place),),
        **fields,
    )


def ldm() -> Case:
    """Rows are [uncond, cond]; there is no negative prompt."""
    return _case("LDMTextToImagePipeline", {"guidance_scale": 4.0}, rows=rows_after(2))


def ldm_without_guidance() -> Case:
    return _case(
        "LDMTextToImagePipeline without guidance", {"guidance_scale": 1.0}, rows=rows_before(2)
    )


CASES: dict[str, Callable[[], Case]] = {
    "LDMTextToImagePipeline": ldm,
    "LDMTextToImagePipeline without guidance": ldm_without_guidance,
}
