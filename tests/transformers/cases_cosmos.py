"""Cosmos 2 text to image: cross-attention over T5."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import Cosmos2TextToImagePipeline, CosmosTransformer3DModel
from diffusers.models.transformers import transformer_cosmos
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    columns_from,
    flow_scheduler,
    t5_encoder,
    wake,
    wan_vae,
)
from tokenizers_single import t5_tokenizer

# One frame.
GRID = (3, 5)


class _Guardrail:
    """In the place of the models that look at prompts and pictures."""

    def to(self, *args: Any) -> None:
        pass

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def _resize_without_torchvision() -> None:
    """Let the transformer resize its padding mask, which is the same everywhere."""
    if not hasattr(transformer_cosmos, "transforms"):

        def resize(mask: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
            return torch.nn.functional.interpolate(mask, size, mode=interpolation)

        transformer_cosmos.transforms = SimpleNamespace(
            functional=SimpleNamespace(resize=resize),
            InterpolationMode=SimpleNamespace(NEAREST="nearest"),
        )


def _pipeline() -> Any:
    _resize_without_torchvision()
    tokenizer = t5_tokenizer()
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True,
        extra_pos_embed_type=None,
    )
    return Cosmos2TextToImagePipeline(
        text_encoder=t5_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
        vae=wan_vae(),
        scheduler=flow_scheduler(use_karras_sigmas=True),
        safety_checker=_Guardrail(),
    )


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 80,
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


def cosmos2() -> Case:
    """Calls of their own, conditional first."""
    return _case(
        "Cosmos2TextToImagePipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def cosmos2_without_guidance() -> Case:
    return _case("Cosmos2TextToImagePipeline without guidance", {"guidance_scale": 1.0})


CASES: dict[str, Callable[[], Case]] = {
    "Cosmos2TextToImagePipeline": cosmos2,
    "Cosmos2TextToImagePipeline without guidance": cosmos2_without_guidance,
}
