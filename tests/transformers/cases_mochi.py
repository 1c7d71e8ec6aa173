"""Mochi: [video, valid text] in one attention, one kernel call for each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import AutoencoderKLMochi, MochiPipeline, MochiTransformer3DModel
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    flow_scheduler,
    rows_after,
    rows_before,
    t5_encoder,
    wake,
)
from tokenizers_single import t5_tokenizer

# 16 x 16 pixels and 6 frames are one token; the first frame is one of its own.
GRID = (2, 2, 3)


def _vae() -> Any:
    torch.manual_seed(43)
    return AutoencoderKLMochi(
        latent_channels=12,
        out_channels=3,
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1,) * 5,
    ).eval()


def _pipeline() -> Any:
    tokenizer = t5_tokenizer()
    torch.manual_seed(0)
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=32,
        time_embed_dim=4,
        max_sequence_length=COLUMNS,
    )
    with torch.no_grad():
        # Empty memory in a new model.
        transformer.pos_frequencies.normal_(std=0.3)
    sharp = ("attn1.norm_q.weight", "attn1.norm_k.weight")
    return MochiPipeline(
        scheduler=flow_scheduler(),
        vae=_vae(),
        text_encoder=t5_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=sharp),
    )


class _Nothing(torch.nn.Module):
    """In the place of the pooled text, which modulates every token."""

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return states.new_zeros(len(states), 32)


def _without_pooled_text(denoiser: Any) -> None:
    denoiser.time_embed.pooler = _Nothing()


def _text_keys(call: ObservedCall, row: int) -> list[int]:
    video = GRID[0] * GRID[1] * GRID[2]
    return list(range(video, call.key.shape[2]))


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 48,
            "num_frames": 7,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"double": r"transformer_blocks\.\d+\.attn1"},
        text_keys=_text_keys,
        kernel_row=lambda call, row: 0 if call.number == row else None,
        unmix=_without_pooled_text,
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def mochi() -> Case:
    return _case(
        "MochiPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def mochi_without_guidance() -> Case:
    return _case("MochiPipeline without guidance", {"guidance_scale": 1.0}, rows=rows_before(2))


CASES: dict[str, Callable[[], Case]] = {
    "MochiPipeline": mochi,
    "MochiPipeline without guidance": mochi_without_guidance,
}
