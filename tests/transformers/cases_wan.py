"""Wan: cross-attention over UMT5 in videos; 2.2 has two transformers, i2v two kernel calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    WanVideoToVideoPipeline,
)
from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2
from diffusers.pipelines.wan import pipeline_wan_i2v, pipeline_wan_vace, pipeline_wan_video2video
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    clean_without_ftfy,
    columns_from,
    flow_scheduler,
    picture,
    umt5_encoder,
    wake,
    wan_vae,
)
from tokenizers_single import t5_tokenizer
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

# 16 x 16 pixels and 4 frames are one token; the first frame is one of its own.
GRID = (2, 2, 3)
SIZES: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}


def wan_transformer(seed: int, **config: Any) -> Any:
    torch.manual_seed(seed)
    model = WanTransformer3DModel(**(SIZES | config))
    return wake(model, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight"))


def wan_parts() -> dict[str, Any]:
    tokenizer = t5_tokenizer()
    return {
        "tokenizer": tokenizer,
        "text_encoder": umt5_encoder(tokenizer),
        "vae": wan_vae(),
        "scheduler": flow_scheduler(shift=7.0),
    }


def wan_case(
    name: str, make: Callable[[], Any], call: dict[str, Any], columns: int = COLUMNS, **fields: Any
) -> Case:
    return ToyCase(
        name,
        make,
        {
            "prompt": PROMPTS[0],
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 5,
            "output_type": "np",
            "max_sequence_length": columns,
        }
        | call,
        GRID,
        {"cross": r"blocks\.\d+\.attn2"},
        text_keys=columns_from(0, columns),
        encoders=(Encoder("umt5", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def wan() -> Case:
    """2.1: calls of their own, conditional first."""
    return wan_case(
        "WanPipeline",
        lambda: WanPipeline(**wan_parts(), transformer=wan_transformer(0), transformer_2=None),
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def wan_without_guidance() -> Case:
    return wan_case(
        "WanPipeline without guidance",
        lambda: WanPipeline(**wan_parts(), transformer=wan_transformer(0), transformer_2=None),
        {"prompt": PROMPTS, "guidance_scale": 1.0},
    )


def _wan_22() -> Any:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return WanPipeline(
        **(wan_parts() | {"scheduler": scheduler}),
        transformer=wan_transformer(0),
        transformer_2=wan_transformer(1),
        boundary_ratio=0.875,
    )


def wan_22() -> Case:
    """The first steps are one transformer's, the later ones the other's."""
    return wan_case(
        "WanPipeline two transformers",
        _wan_22,
        {
            "prompt": PROMPTS,
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "guidance_scale_2": 3.0,
            "num_inference_steps": 3,
        },
        rows=alternate_calls(2),
        denoisers=("transformer", "transformer_2"),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def image_encoder_parts() -> dict[str, Any]:
    torch.manual_seed(40)
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": CLIPVisionModel(config).eval(),
        "image_processor": CLIPImageProcessor(crop_size=32, size=32),
    }


def _wan_i2v() -> Any:
    clean_without_ftfy(pipeline_wan_i2v)
    return WanImageToVideoPipeline(
        **wan_parts(),
        **image_encoder_parts(),
        transformer=wan_transformer(0, in_channels=36, image_dim=8, added_kv_proj_dim=24),
    )


def wan_i2v() -> Case:
    """A layer calls the kernel twice: with the picture's states, then with the text's 512."""
    return wan_case(
        "WanImageToVideoPipeline",
        _wan_i2v,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(48, 32),
        },
        512,
        rows=alternate_calls(1),
        kernel_row=lambda call, row: row if call.number == 1 else None,
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def _wan_22_i2v() -> Any:
    clean_without_ftfy(pipeline_wan_i2v)
    return WanImageToVideoPipeline(
        **wan_parts(),
        transformer=wan_transformer(0, in_channels=36),
        transformer_2=wan_transformer(1, in_channels=36),
        boundary_ratio=0.875,
    )


def wan_22_i2v() -> Case:
    """2.2 has no states of the picture: one kernel call a layer."""
    return wan_case(
        "WanImageToVideoPipeline two transformers",
        _wan_22_i2v,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(48, 32),
            "num_inference_steps": 3,
        },
        rows=alternate_calls(1),
        denoisers=("transformer", "transformer_2"),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def _wan_v2v() -> Any:
    clean_without_ftfy(pipeline_wan_video2video)
    parts = wan_parts() | {
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    }
    return WanVideoToVideoPipeline(**parts, transformer=wan_transformer(0))


def wan_v2v() -> Case:
    case = wan_case(
        "WanVideoToVideoPipeline",
        _wan_v2v,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "video": [picture(48, 32)] * 5,
            "strength": 0.6,
            "num_inference_steps": 4,
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )
    # The video has them.
    del case.call["num_frames"]
    return case


def _wan_vace() -> Any:
    clean_without_ftfy(pipeline_wan_vace)
    torch.manual_seed(0)
    model = WanVACETransformer3DModel(**SIZES, vace_layers=[0], vace_in_channels=96)
    sharp = ("attn2.norm_q.weight", "attn2.norm_k.weight")
    return WanVACEPipeline(**wan_parts(), transformer=wake(model, sharp=sharp))


def wan_vace() -> Case:
    """The blocks of the control have text attention of their own, which is not recorded."""
    return wan_case(
        "WanVACEPipeline",
        _wan_vace,
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "video": [picture(48, 32)] * 5,
            "mask": [picture(48, 32).convert("L")] * 5,
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def _skyreels() -> Any:
    clean_without_ftfy(pipeline_skyreels_v2)
    torch.manual_seed(0)
    model = SkyReelsV2Transformer3DModel(**SIZES)
    parts = wan_parts() | {
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        )
    }
    sharp = ("attn2.norm_q.weight", "attn2.norm_k.weight")
    return SkyReelsV2Pipeline(**parts, transformer=wake(model, sharp=sharp))


def skyreels() -> Case:
    """SkyReels 2 has Wan's blocks."""
    return wan_case(
        "SkyReelsV2Pipeline",
        _skyreels,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


CASES: dict[str, Callable[[], Case]] = {
    "WanPipeline": wan,
    "WanPipeline without guidance": wan_without_guidance,
    "WanPipeline two transformers": wan_22,
    "WanImageToVideoPipeline": wan_i2v,
    "WanImageToVideoPipeline two transformers": wan_22_i2v,
    "WanVideoToVideoPipeline": wan_v2v,
    "WanVACEPipeline": wan_vace,
    "SkyReelsV2Pipeline": skyreels,
}
