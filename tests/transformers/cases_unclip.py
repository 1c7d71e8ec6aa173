"""UnCLIP: the decoder's attention has keys [image embedding, text, image]; its size is fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    PriorTransformer,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from single_parts import PROMPTS, ToyCase, columns_from, rows_after, rows_before, wake
from toy_models import clip_encoder
from toy_tokenizers import clip_tokenizer

# The pipeline takes no height and width; the decoder is square, 16 x 16.
GRID = (8, 8)
# Columns of the image embedding, in front of the text's.
EXTRA = 4


def _decoder() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )


def _super_resolution(seed: int) -> Any:
    torch.manual_seed(seed)
    return UNet2DModel(
        sample_size=32,
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(8, 16),
        norm_num_groups=4,
        in_channels=6,
        out_channels=3,
    ).eval()


def _pipeline() -> Any:
    torch.manual_seed(1)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=4, embedding_dim=32, num_layers=1
    )
    projection = UnCLIPTextProjModel(
        clip_embeddings_dim=32, time_embed_dim=32, cross_attention_dim=16
    )
    learned = {"variance_type": "learned_range", "num_train_timesteps": 1000}
    fixed = {"variance_type": "fixed_small_log", "num_train_timesteps": 1000}
    return UnCLIPPipeline(
        prior=prior.eval(),
        decoder=wake(_decoder(), sharp=("to_q.weight", "add_k_proj.weight")),
        text_encoder=clip_encoder(),
        tokenizer=clip_tokenizer(),
        text_proj=wake(projection),
        super_res_first=_super_resolution(2),
        super_res_last=_super_resolution(3),
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0, **fixed),
        decoder_scheduler=UnCLIPScheduler(prediction_type="epsilon", **learned),
        super_res_scheduler=UnCLIPScheduler(prediction_type="epsilon", **fixed),
    )


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    blocks = r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)"
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "prior_num_inference_steps": 2,
            "decoder_num_inference_steps": 2,
            "super_res_num_inference_steps": 2,
            "output_type": "np",
        }
        | call,
        GRID,
        {"single": rf"{blocks}\.attentions\.\d+"},
        text_keys=columns_from(0, EXTRA + 77),
        denoisers=("decoder",),
        encoders=(Encoder("clip", "text_encoder", "tokenizer", lambda place: EXTRA + place),),
        project=_project,
        **fields,
    )


def _project(pipe: Any, states: torch.Tensor) -> torch.Tensor:
    """The text is projected and normalised before the decoder."""
    projection = pipe.text_proj
    projected = projection.encoder_hidden_states_proj(states)
    return projection.text_encoder_hidden_states_norm(projected)


def unclip() -> Case:
    """Rows are [uncond, cond]; there is no negative prompt."""
    return _case("UnCLIPPipeline", {}, rows=rows_after(2))


def unclip_without_guidance() -> Case:
    return _case(
        "UnCLIPPipeline without guidance",
        {"prior_guidance_scale": 1.0, "decoder_guidance_scale": 1.0},
        rows=rows_before(2),
    )


CASES: dict[str, Callable[[], Case]] = {
    "UnCLIPPipeline": unclip,
    "UnCLIPPipeline without guidance": unclip_without_guidance,
}
