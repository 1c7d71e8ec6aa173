"""Nucleus: the image attends to [image, text], of a prompt that is padded on either side."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import NucleusMoEImagePipeline, NucleusMoEImageTransformer2DModel
from diffusers.pipelines.nucleusmoe_image.pipeline_nucleusmoe_image import DEFAULT_SYSTEM_PROMPT
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    flow_scheduler,
    qwen3_vl_encoder,
    wake,
)
from tokenizers_single import qwen_tokenizer
from toy_qwen import qwen_vae

GRID = (3, 5)
TOKENS = 15


class _Processor:
    """A processor of text and pictures that is given text only."""

    def __init__(self, side: str) -> None:
        self.tokenizer = qwen_tokenizer(side=side)

    def __call__(self, *, text: list[str], **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> str:
        system, user = messages
        [part] = user["content"]
        plain = [system, {"role": "user", "content": part["text"]}]
        return self.tokenizer.apply_chat_template(plain, **options)


def _pipeline(side: str) -> Any:
    processor = _Processor(side)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # It has a layer for the queries of the text, which there are not.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        transformer = NucleusMoEImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_heads=1,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
            moe_enabled=False,
            capacity_factors=[8.0, 8.0],
        )
    pipe = NucleusMoEImagePipeline(
        transformer=wake(transformer, sharp=("norm_q.weight", "norm_added_k.weight")),
        scheduler=flow_scheduler(),
        vae=qwen_vae(levels=1),
        text_encoder=qwen3_vl_encoder(processor.tokenizer),
        processor=processor,
    )
    # The toy has two layers.
    pipe.default_return_index = -2
    return pipe


def _given(prompt: str) -> str:
    return (
        f"<|im_start|>system\n{DEFAULT_SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n{prompt}"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def _keys(side: str, prompts: list[str]) -> Callable[[ObservedCall, int], list[int]]:
    """Both texts of a call are padded to the longer one, and that to a multiple of eight."""
    counts = [len(qwen_tokenizer()(_given(prompt)).input_ids) for prompt in prompts]
    length = -(-max(counts) // 8) * 8

    def keys(call: ObservedCall, row: int) -> list[int]:
        start = TOKENS + (length - counts[row] if side == "left" else 0)
        return list(range(start, start + counts[row]))

    return keys


def _case(name: str, call: dict[str, Any], side: str = "right", **fields: Any) -> Case:
    keys = _keys(side, PROMPTS)

    def disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
        states = kwargs["encoder_hidden_states"].clone()
        states[row, keys(None, row)[column] - TOKENS] += torch.linspace(-3, 3, states.shape[-1])
        return kwargs | {"encoder_hidden_states": states}

    return ToyCase(
        name,
        partial(_pipeline, side),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 12,
            "width": 20,
            "output_type": "np",
        }
        | call,
        GRID,
        {"single": r"transformer_blocks\.\d+\.attn"},
        text_keys=keys,
        disturb=disturb,
        **fields,
    )


ENCODERS = (Encoder("qwen", "text_encoder", "processor", lambda place: place),)


def nucleus(side: str = "right") -> Case:
    """Calls of their own, conditional first."""
    return _case(
        "NucleusMoEImagePipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        side,
        rows=alternate_calls(2),
        encoders=ENCODERS if side == "right" else (),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def nucleus_without_guidance() -> Case:
    return _case(
        "NucleusMoEImagePipeline without guidance", {"guidance_scale": 1.0}, encoders=ENCODERS
    )


CASES: dict[str, Callable[[], Case]] = {
    "NucleusMoEImagePipeline": nucleus,
    "NucleusMoEImagePipeline padding in front": partial(nucleus, "left"),
    "NucleusMoEImagePipeline without guidance": nucleus_without_guidance,
}
