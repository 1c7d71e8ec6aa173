"""PRX: image queries, and keys [text, image]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import PRXPipeline, PRXPixelPipeline, PRXTransformer2DModel
from diffusers.pipelines.prx import pipeline_prx, pipeline_prx_pixel
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    clean_without_ftfy,
    columns_from,
    flow_scheduler,
    image_vae,
    qwen3_vl_encoder,
    rows_after,
    rows_before,
    t5gemma_encoder,
    wake,
)
from tokenizers_single import gemma_tokenizer, qwen_tokenizer

GRID = (3, 5)


def _transformer(**config: Any) -> Any:
    torch.manual_seed(0)
    transformer = PRXTransformer2DModel(
        context_in_dim=16,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[4, 4],
        **config,
    )
    return wake(transformer, sharp=("norm_q.weight", "norm_added_k.weight"))


def _pipeline() -> Any:
    clean_without_ftfy(pipeline_prx)
    tokenizer = gemma_tokenizer(COLUMNS)
    return PRXPipeline(
        transformer=_transformer(patch_size=2, in_channels=4),
        scheduler=flow_scheduler(),
        text_encoder=t5gemma_encoder(tokenizer),
        tokenizer=tokenizer,
        vae=image_vae(4, 4, shift_factor=0.0),
    )


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "num_inference_steps": 2,
            "height": 48,
            "width": 80,
            "output_type": "np",
            "use_resolution_binning": False,
        }
        | call,
        GRID,
        {"single": r"blocks\.\d+\.attention"},
        text_keys=columns_from(0),
        encoders=(Encoder("gemma", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def prx() -> Case:
    """With guidance the stock class takes one prompt only."""
    return _case(
        "PRXPipeline",
        {"prompt": PROMPTS[0], "negative_prompt": NEGATIVES[0], "guidance_scale": 4.0},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def prx_without_guidance() -> Case:
    return _case(
        "PRXPipeline without guidance",
        {"prompt": PROMPTS, "guidance_scale": 1.0},
        rows=rows_before(2),
    )


def _pixel_pipeline() -> Any:
    clean_without_ftfy(pipeline_prx_pixel)
    tokenizer = qwen_tokenizer()
    return PRXPixelPipeline(
        transformer=_transformer(patch_size=16, in_channels=3, bottleneck_size=8),
        scheduler=flow_scheduler(),
        text_encoder=qwen3_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        prompt_max_tokens=COLUMNS,
    )


def prx_pixel() -> Case:
    """Without an autoencoder: a position is 16 x 16 pixels."""
    case = _case(
        "PRXPixelPipeline",
        {"prompt": PROMPTS[0], "negative_prompt": NEGATIVES[0], "guidance_scale": 4.0},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda place: place)
    return replace(case, make=_pixel_pipeline, encoders=(encoder,))


CASES: dict[str, Callable[[], Case]] = {
    "PRXPipeline": prx,
    "PRXPixelPipeline": prx_pixel,
    "PRXPipeline without guidance": prx_without_guidance,
}
