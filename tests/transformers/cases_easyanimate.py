"""EasyAnimate: [text, video] in one attention, over Qwen-VL's chat template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import (
    AutoencoderKLMagvit,
    EasyAnimateInpaintPipeline,
    EasyAnimatePipeline,
    EasyAnimateTransformer3DModel,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    flow_scheduler,
    qwen_vl_encoder,
    rows_after,
    wake,
)
from toy_tokenizers import qwen2_tokenizer

# 8 x 8 pixels and 2 frames are one token; the first frame is one of its own.
GRID = (3, 4, 6)
# The pipeline's length, which its call has no argument for.
COLUMNS = 256
TEMPLATE = """\
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def _vae() -> Any:
    torch.manual_seed(49)
    return AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(4, 4, 4),
        down_block_types=("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 2),
        up_block_types=("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 2),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    ).eval()


def _pipeline(cls: type = EasyAnimatePipeline, in_channels: int = 4) -> Any:
    tokenizer = qwen2_tokenizer("You are a helpful assistant.", template=TEMPLATE)
    torch.manual_seed(0)
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=in_channels,
        out_channels=4,
        patch_size=2,
        sample_width=6,
        sample_height=4,
        num_layers=2,
        # The second block has no weights of its own for the text.
        mmdit_layers=1,
        time_embed_dim=8,
        text_embed_dim=32,
    )
    return cls(
        vae=_vae(),
        text_encoder=qwen_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=("norm_q.weight", "norm_added_k.weight")),
        scheduler=flow_scheduler(),
    )


def _image_queries(call: ObservedCall, row: int) -> int:
    return COLUMNS


def _case(name: str, make: Callable[[], Any], call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        make,
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 5,
            "output_type": "np",
        }
        | call,
        GRID,
        {"joint": r"transformer_blocks\.\d+\.attn1"},
        **{
            "rows": rows_after(1),
            "image_queries": _image_queries,
            "text_keys": columns_from(0, COLUMNS),
            "encoders": (Encoder("qwen", "text_encoder", "tokenizer", lambda place: place),),
            "negative": {"negative_prompt": OTHER_NEGATIVES[0]},
            **fields,
        },
    )


def easyanimate() -> Case:
    return _case(
        "EasyAnimatePipeline",
        _pipeline,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def easyanimate_without_guidance() -> Case:
    return _case(
        "EasyAnimatePipeline without guidance",
        _pipeline,
        {"prompt": PROMPTS, "negative_prompt": None, "guidance_scale": 1.0},
        rows=lambda call: [0, 1],
        negative=None,
    )


def easyanimate_inpaint() -> Case:
    """A mask, all of it to be painted, and the latents of the video are further channels."""
    torch.manual_seed(7)
    return _case(
        "EasyAnimateInpaintPipeline",
        lambda: _pipeline(EasyAnimateInpaintPipeline, 9),
        {
            "video": torch.rand(1, 3, 5, 32, 48),
            "mask_video": torch.full((1, 1, 5, 32, 48), 255.0),
        },
    )


CASES: dict[str, Callable[[], Case]] = {
    "EasyAnimatePipeline": easyanimate,
    "EasyAnimatePipeline without guidance": easyanimate_without_guidance,
    "EasyAnimateInpaintPipeline": easyanimate_inpaint,
}
