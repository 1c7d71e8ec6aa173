"""LTX: cross-attention over T5 in videos, padding masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    AutoencoderKLLTXVideo,
    LTXConditionPipeline,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    flow_scheduler,
    picture,
    rows_after,
    t5_encoder,
    wake,
    without_self_attention,
)
from tokenizers_single import t5_tokenizer

# 4 x 4 pixels are one token, and 4 frames; the first frame is one of its own.
GRID = (3, 8, 16)


def _vae() -> Any:
    torch.manual_seed(41)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = False
    vae.use_framewise_decoding = False
    return vae.eval()


def _pipeline(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = t5_tokenizer()
        torch.manual_seed(0)
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=2,
            caption_channels=32,
        )
        return cls(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer),
            vae=_vae(),
            scheduler=flow_scheduler(),
            transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
        )

    return make


def _case(name: str, cls: type, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline(cls),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 64,
            "num_frames": 9,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        text_keys=columns_from(0),
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def ltx() -> Case:
    return _case(
        "LTXPipeline",
        LTXPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def ltx_without_guidance() -> Case:
    return _case("LTXPipeline without guidance", LTXPipeline, {"guidance_scale": 1.0})


def ltx_i2v() -> Case:
    return _case(
        "LTXImageToVideoPipeline",
        LTXImageToVideoPipeline,
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(64, 32),
        },
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def ltx_condition() -> Case:
    """A picture in the middle of the video has positions of its own, before those of the video."""
    frame = 8 * 16
    return _case(
        "LTXConditionPipeline",
        LTXConditionPipeline,
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "conditions": [
                LTXVideoCondition(image=picture(64, 32), frame_index=0),
                LTXVideoCondition(image=picture(64, 32), frame_index=4, strength=0.8),
            ],
        },
        rows=rows_after(1),
        image_queries=lambda call, row: frame,
        unmix=without_self_attention("transformer_blocks"),
        of_image=lambda latents: (torch.arange(latents.shape[1]) >= frame)[:, None],
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def ltx_condition_of_text() -> Case:
    """No condition: the video's positions are all there are."""
    return _case(
        "LTXConditionPipeline text",
        LTXConditionPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


CASES: dict[str, Callable[[], Case]] = {
    "LTXPipeline": ltx,
    "LTXPipeline without guidance": ltx_without_guidance,
    "LTXImageToVideoPipeline": ltx_i2v,
    "LTXConditionPipeline": ltx_condition,
    "LTXConditionPipeline text": ltx_condition_of_text,
}
