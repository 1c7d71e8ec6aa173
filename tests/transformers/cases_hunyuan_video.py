"""HunyuanVideo: [video, text] in one attention, in double and in single streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import (
    HunyuanSkyreelsImageToVideoPipeline,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video as of_picture
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
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

# 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
GRID = (2, 2, 3)
TEMPLATE, DROPPED = DEFAULT_PROMPT_TEMPLATE["template"], DEFAULT_PROMPT_TEMPLATE["crop_start"]


PICTURE_TEMPLATE = of_picture.DEFAULT_PROMPT_TEMPLATE | {"image_emb_end": 9, "image_emb_len": 4}


def _tokenizer() -> Any:
    return byte_level_tokenizer(
        (TEMPLATE,),
        start=("<|begin_of_text|>",),
        specials=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        pad_token="<|end_of_text|>",
    )


def _pipeline(
    cls: type = HunyuanVideoPipeline, in_channels: int = 4, condition: str | None = None
) -> Any:
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
        image_condition_type=condition,
    )
    text = {"text_encoder": llama_encoder(tokenizer), "tokenizer": tokenizer}
    return cls(
        **(text if condition is None else _llava()),
        transformer=wake(transformer, sharp=("attn.norm_q.weight", "attn.norm_k.weight")),
        vae=hunyuan_vae(4),
        scheduler=flow_scheduler(shift=7.0),
        text_encoder_2=clip_encoder(projected=False),
        tokenizer_2=clip_tokenizer(),
    )


def _llava() -> dict[str, Any]:
    """Llama that sees a picture as four tokens."""
    tokenizer = byte_level_tokenizer(
        (PICTURE_TEMPLATE["template"],),
        start=("<|begin_of_text|>",),
        specials=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"),
        pad_token="<|end_of_text|>",
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    torch.manual_seed(57)
    config = LlavaConfig(
        vision_config=vision,
        text_config=llama_encoder(tokenizer).config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    size = {"height": 28, "width": 28}
    return {
        "text_encoder": wake(LlavaForConditionalGeneration(config)),
        "tokenizer": tokenizer,
        "image_processor": CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size),
    }


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


def of_picture_latents(condition: str, pictures: int) -> Case:
    """The picture's columns come before the prompt's, of which every second or fourth is kept."""
    dropped = PICTURE_TEMPLATE["crop_start"]
    case = _case(
        "HunyuanVideoImageToVideoPipeline",
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "true_cfg_scale": 4.0,
            "image": picture(48, 32),
            "prompt_template": PICTURE_TEMPLATE,
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )

    def column(place: int) -> int:
        # The picture is three tokens longer to the encoder than to the tokenizer.
        return place - 3 - dropped + pictures

    encoder = Encoder("llama", "text_encoder", "tokenizer", column)
    channels = 9 if condition == "latent_concat" else 4
    return replace(
        case,
        make=lambda: _pipeline(HunyuanVideoImageToVideoPipeline, channels, condition),
        text_keys=columns_at_end(COLUMNS - 4 + pictures),
        encoders=(encoder,),
    )


CASES: dict[str, Callable[[], Case]] = {
    "HunyuanVideoPipeline": hunyuan_video,
    "HunyuanSkyreelsImageToVideoPipeline": skyreels_of_picture,
    "HunyuanVideoPipeline true guidance": hunyuan_video_true_guidance,
    "HunyuanVideoImageToVideoPipeline": lambda: of_picture_latents("latent_concat", 2),
    "HunyuanVideoImageToVideoPipeline token replace": lambda: of_picture_latents(
        "token_replace", 1
    ),
}
