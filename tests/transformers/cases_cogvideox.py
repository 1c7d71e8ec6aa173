"""CogVideoX: [text, video] in one attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXFunControlPipeline,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    CogVideoXVideoToVideoPipeline,
)
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    picture,
    rows_after,
    t5_encoder,
    wake,
)
from tokenizers_single import t5_tokenizer

# 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
GRID = (2, 2, 3)


def _vae() -> Any:
    torch.manual_seed(42)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    ).eval()


def _pipeline(cls: type, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = t5_tokenizer()
        torch.manual_seed(0)
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=32,
            num_layers=2,
            sample_width=6,
            sample_height=4,
            sample_frames=5,
            patch_size=2,
            max_text_seq_length=COLUMNS,
            **({"in_channels": 4} | config),
        )
        return cls(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer),
            vae=_vae(),
            transformer=wake(transformer, sharp=("attn1.norm_q.weight", "attn1.norm_k.weight")),
            scheduler=CogVideoXDDIMScheduler(),
        )

    return make


def _case(
    name: str, cls: type, call: dict[str, Any], config: dict[str, Any], **fields: Any
) -> Case:
    return ToyCase(
        name,
        _pipeline(cls, **config),
        {
            "prompt": PROMPTS[0],
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 5,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"double": r"transformer_blocks\.\d+\.attn1"},
        image_queries=lambda call, row: COLUMNS,
        text_keys=columns_from(0),
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def cogvideox() -> Case:
    return _case(
        "CogVideoXPipeline",
        CogVideoXPipeline,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def cogvideox_without_guidance() -> Case:
    """As the 5B model: rotary positions, of the video only."""
    return _case(
        "CogVideoXPipeline without guidance",
        CogVideoXPipeline,
        {"prompt": PROMPTS, "guidance_scale": 1.0},
        {"use_rotary_positional_embeddings": True},
    )


def cogvideox_i2v() -> Case:
    return _case(
        "CogVideoXImageToVideoPipeline",
        CogVideoXImageToVideoPipeline,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(48, 32),
        },
        {"in_channels": 8, "use_rotary_positional_embeddings": True},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def cogvideox_v2v() -> Case:
    case = _case(
        "CogVideoXVideoToVideoPipeline",
        CogVideoXVideoToVideoPipeline,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "video": [picture(48, 32)] * 5,
            "num_inference_steps": 4,
            "strength": 0.6,
        },
        {},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    # The video has them.
    del case.call["num_frames"]
    return case


def cogvideox_control() -> Case:
    case = _case(
        "CogVideoXFunControlPipeline",
        CogVideoXFunControlPipeline,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "control_video": [picture(48, 32)] * 5,
        },
        {"in_channels": 8, "use_rotary_positional_embeddings": True},
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    # The video has them.
    del case.call["num_frames"]
    return case


CASES: dict[str, Callable[[], Case]] = {
    "CogVideoXPipeline": cogvideox,
    "CogVideoXPipeline without guidance": cogvideox_without_guidance,
    "CogVideoXImageToVideoPipeline": cogvideox_i2v,
    "CogVideoXVideoToVideoPipeline": cogvideox_v2v,
    "CogVideoXFunControlPipeline": cogvideox_control,
}
