"""LTX 2: cross-attention of a video over Gemma's text, next to a sound's; guidance calls more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from dense_oracle import Case, DenoiserCall, Encoder
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    LTX2ConditionPipeline,
    LTX2ImageToVideoPipeline,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.ltx2.connectors import per_token_rms_norm
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    flow_scheduler,
    gemma3_encoder,
    picture,
    wake,
    without_self_attention,
)
from tokenizers_single import gemma_tokenizer

# 8 x 8 pixels are one token, and 2 frames; the first frame is one of its own.
GRID = (3, 4, 8)
# <bos> and the tokens of the first prompt; the padding in front becomes registers behind.
FRONT = COLUMNS - len(gemma_tokenizer()(PROMPTS[0]).input_ids)
ONE: dict[str, Any] = {"prompt": PROMPTS[0], "negative_prompt": NEGATIVES[0]}


def _vae() -> Any:
    torch.manual_seed(47)
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        down_block_types=("LTX2VideoDownBlock3D",),
        decoder_block_out_channels=(8,),
        layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatiotemporal",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=4,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = False
    vae.use_framewise_decoding = False
    return vae.eval()


def _sound_parts() -> dict[str, Any]:
    torch.manual_seed(48)
    vae = AutoencoderKLLTX2Audio(
        base_channels=4,
        ch_mult=(1,),
        num_res_blocks=1,
        resolution=32,
        latent_channels=2,
        mel_bins=8,
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )
    return {"audio_vae": vae.eval(), "vocoder": vocoder.eval()}


def _pipeline(cls: type, registers: int | None = 5) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = gemma_tokenizer(side="left")
        torch.manual_seed(0)
        transformer = LTX2VideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            cross_attn_mod=True,
            audio_cross_attn_mod=True,
            num_layers=2,
            use_prompt_embeddings=False,
            rope_double_precision=False,
            perturbed_attn=True,
        )
        connectors = LTX2TextConnectors(
            caption_channels=16,
            text_proj_in_factor=3,
            video_connector_num_attention_heads=2,
            video_connector_attention_head_dim=8,
            # These would mix the columns.
            video_connector_num_layers=0,
            video_connector_num_learnable_registers=registers,
            audio_connector_num_attention_heads=2,
            audio_connector_attention_head_dim=4,
            audio_connector_num_layers=0,
            audio_connector_num_learnable_registers=registers,
            rope_double_precision=False,
            per_modality_projections=True,
            video_hidden_dim=16,
            audio_hidden_dim=8,
        )
        return cls(
            scheduler=flow_scheduler(),
            vae=_vae(),
            text_encoder=gemma3_encoder(tokenizer),
            tokenizer=tokenizer,
            connectors=wake(connectors),
            transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
            **_sound_parts(),
        )

    return make


def _projected(pipe: Any, layers: torch.Tensor) -> torch.Tensor:
    """What the connectors make of the layers ``(layers, tokens, width)`` of single tokens."""
    connectors = pipe.connectors
    states = per_token_rms_norm(layers.permute(1, 2, 0)[None]).flatten(2)
    states = connectors.video_text_proj_in(states)
    return connectors.video_connector.norm_out(states)


def _rows(images: int) -> Callable[[DenoiserCall], list[int]]:
    """``[uncond, cond]``; calls with self-attention or the sound left out are of no prompt."""

    def rows(call: DenoiserCall) -> list[int]:
        if call.kwargs["isolate_modalities"] or call.kwargs["spatio_temporal_guidance_blocks"]:
            return []
        return list(range(images, 2 * images))

    return rows


def _case(name: str, cls: type, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline(cls),
        {
            "num_inference_steps": 2,
            "height": 32,
            "width": 64,
            "num_frames": 5,
            "spatio_temporal_guidance_blocks": [1],
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | ONE
        | call,
        GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        **{
            "rows": _rows(1),
            "text_keys": columns_from(0),
            "project": _projected,
            "negative": {"negative_prompt": OTHER_NEGATIVES[0]},
            "encoders": (
                Encoder("gemma", "text_encoder", "tokenizer", lambda place: place - FRONT),
            ),
            **fields,
        },
    )


def ltx2() -> Case:
    """Registers are in the place of the padding, behind the text."""
    return _case("LTX2Pipeline", LTX2Pipeline, {})


def ltx2_without_registers() -> Case:
    """The padding is in front of the text."""
    case = _case(
        "LTX2Pipeline without registers",
        LTX2Pipeline,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES},
        rows=_rows(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
        encoders=(Encoder("gemma", "text_encoder", "tokenizer", lambda place: place),),
    )
    return replace(case, make=_pipeline(LTX2Pipeline, None))


def ltx2_without_guidance() -> Case:
    off = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_scale": 1.0}
    sound = {f"audio_{name}": value for name, value in off.items()}
    call = off | sound | {"audio_stg_scale": None, "negative_prompt": None}
    return _case(
        "LTX2Pipeline without guidance",
        LTX2Pipeline,
        call,
        rows=lambda call: [0],
        negative=None,
    )


def ltx2_i2v() -> Case:
    """The first latent frame is that of the picture."""
    return _case(
        "LTX2ImageToVideoPipeline",
        LTX2ImageToVideoPipeline,
        # Compressing the picture as a video's frame needs a library.
        {"image": picture(64, 32), "image_crf": 0},
    )


def ltx2_condition() -> Case:
    """A picture in the middle of the video has positions of its own, behind those of the video."""
    positions = 3 * 4 * 8
    return _case(
        "LTX2ConditionPipeline",
        LTX2ConditionPipeline,
        {
            "conditions": [
                LTX2VideoCondition(frames=picture(64, 32), index=0, crf=0),
                LTX2VideoCondition(frames=picture(64, 32), index=1, strength=0.8, crf=0),
            ],
        },
        unmix=without_self_attention("transformer_blocks"),
        of_image=lambda latents: (torch.arange(latents.shape[1]) < positions)[:, None],
    )


CASES: dict[str, Callable[[], Case]] = {
    "LTX2Pipeline": ltx2,
    "LTX2Pipeline without registers": ltx2_without_registers,
    "LTX2Pipeline without guidance": ltx2_without_guidance,
    "LTX2ImageToVideoPipeline": ltx2_i2v,
    "LTX2ConditionPipeline": ltx2_condition,
}
