"""HunyuanVideo: [video, text] in one attention, in double and in single streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import (
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    columns_at_end,
    flow_scheduler,
    hunyuan_vae,
    llama_encoder,
    picture,
    wake,
)
from toy_models import clip_encoder
from toy_tokenizers import byte_level_tokenizer, clip_tokenizer

# 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
GRID = (2, 2, 3)
TEMPLATE, DROPPED = DEFAULT_PROMPT_TEMPLATE["template"], DEFAULT_PROMPT_TEMPLATE["crop_start"]


def _tokenizer() -> Any:
    return byte_level_tokenizer(
        (TEMPLATE,),
        start=("<|begin_of_text|>",),
        specials=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        pad_token="<|end_of_text|>",
    )


def _pipeline(cls: type = HunyuanVideoPipeline, in_channels: int = 4) -> Any:
    tokenizer = _tokenizer()
    assert len(tokenizer(TEMPLATE.partition("{}")[0]).input_ids) == DROPPED
    torch.manual_seed(0)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=in_channels,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=32,
        rope_axes_dim=(2, 4, 4),
    )
    return cls(
        text_encoder=llama_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=("attn.norm_q.weight", "attn.norm_k.weight")),
        vae=hunyuan_vae(4),
        scheduler=flow_scheduler(shift=7.0),
        text_encoder_2=clip_encoder(projected=False),
        tokenizer_2=clip_tokenizer(),
    )


class _Unchanged(torch.nn.Module):
    def forward(self, states: torch.Tensor, *others: Any) -> torch.Tensor:
        return states


def _without_refiner(denoiser: Any) -> None:
    denoiser.context_embedder.token_refiner = _Unchanged()


def _image_queries(call: ObservedCall, row: int) -> int:
    return 0


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    encoder = Encoder("llama", "text_encoder", "tokenizer", lambda place: place - DROPPED)
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 5,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {
            "double": r"transformer_blocks\.\d+\.attn",
            "single": r"single_transformer_blocks\.\d+\.attn",
        },
        image_queries=_image_queries,
        text_keys=columns_at_end(),
        unmix=_without_refiner,
        encoders=(encoder,),
        **fields,
    )


def hunyuan_video() -> Case:
    """Guidance is an input of the model."""
    return _case("HunyuanVideoPipeline", {})


def hunyuan_video_true_guidance() -> Case:
    return _case(
        "HunyuanVideoPipeline true guidance",
        {"negative_prompt": NEGATIVES, "true_cfg_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def skyreels_of_picture() -> Case:
    """The latents of the picture are further channels; the prompt is guided against a negative."""
    case = _case(
        "HunyuanSkyreelsImageToVideoPipeline",
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "true_cfg_scale": 4.0,
            "image": picture(48, 32),
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    return replace(case, make=lambda: _pipeline(HunyuanSkyreelsImageToVideoPipeline, 8))


CASES: dict[str, Callable[[], Case]] = {
    "HunyuanVideoPipeline": hunyuan_video,
    "HunyuanSkyreelsImageToVideoPipeline": skyreels_of_picture,
    "HunyuanVideoPipeline true guidance": hunyuan_video_true_guidance,
}
