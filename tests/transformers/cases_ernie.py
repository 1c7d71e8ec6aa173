"""Ernie-Image: one sequence, [image, text], the text of a batch padded to its longest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import AutoencoderKLFlux2, ErnieImagePipeline, ErnieImageTransformer2DModel
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    flow_scheduler,
    mistral3_encoder,
    rows_after,
    rows_before,
    wake,
)
from toy_tokenizers import byte_level_tokenizer

GRID = (3, 5)


def _vae() -> Any:
    torch.manual_seed(47)
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def _tokenizer() -> Any:
    return byte_level_tokenizer((), start=("<s>",), pad_token="<pad>", model_max_length=512)


def _pipeline() -> Any:
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    transformer = ErnieImageTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=24,
        rope_axes_dim=(4, 2, 2),
    )
    return ErnieImagePipeline(
        transformer=wake(transformer, sharp=("norm_q.weight", "norm_k.weight")),
        vae=_vae(),
        text_encoder=mistral3_encoder(tokenizer, 24),
        tokenizer=tokenizer,
        scheduler=flow_scheduler(),
    )


def _text_keys(texts: list[str]) -> Callable[[ObservedCall, int], list[int]]:
    tokens = GRID[0] * GRID[1]
    counts = [len(_tokenizer()(text).input_ids) for text in texts]
    return lambda call, row: list(range(tokens, tokens + counts[row]))


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    states = kwargs["text_bth"].clone()
    states[row, column] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {"text_bth": states}


def _case(name: str, texts: list[str], call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 12,
            "width": 20,
            "output_type": "np",
        }
        | call,
        GRID,
        {"single": r"layers\.\d+\.self_attention"},
        text_keys=_text_keys(texts),
        disturb=_disturb,
        encoders=(Encoder("mistral", "text_encoder", "tokenizer", lambda place: place),),
        states=lambda kwargs, row: kwargs["text_bth"][row],
        row_count=lambda kwargs: len(kwargs["text_bth"]),
        **fields,
    )


def ernie() -> Case:
    return _case(
        "ErnieImagePipeline",
        NEGATIVES + PROMPTS,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def ernie_without_guidance() -> Case:
    return _case(
        "ErnieImagePipeline without guidance",
        PROMPTS,
        {"guidance_scale": 1.0},
        rows=rows_before(2),
    )


CASES: dict[str, Callable[[], Case]] = {
    "ErnieImagePipeline": ernie,
    "ErnieImagePipeline without guidance": ernie_without_guidance,
}
