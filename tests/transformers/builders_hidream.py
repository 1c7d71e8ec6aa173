"""HiDream: image and its padding before three spans of text, of T5 and twice of Llama."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dense_oracle import Case, DenoiserCall, Encoder, ObservedCall
from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel
from toy_models import (
    clip_encoder,
    every_row,
    flow_scheduler,
    second_half,
    seeded,
    sharpened,
    t5_encoder,
    tiny_vae,
)
from toy_tokenizers import (
    NEGATIVES,
    PROMPTS,
    byte_level_tokenizer,
    clip_tokenizer,
    t5_tokenizer,
)
from transformers import LlamaConfig, LlamaForCausalLM

# Whatever size is asked for, the image gets about 64 by 64 tokens of its proportions.
GRID = (52, 78)
LENGTH = 24
ENCODERS = (
    Encoder("t5", "text_encoder_3", "tokenizer_3", lambda position: position),
    Encoder("llama", "text_encoder_4", "tokenizer_4", lambda position: LENGTH + position),
    Encoder("llama", "text_encoder_4", "tokenizer_4", lambda position: 2 * LENGTH + position),
)


def _make() -> Any:
    t5 = t5_tokenizer()
    llama = byte_level_tokenizer(
        start=("<|begin_of_text|>",), eos_token="<|eot_id|>", model_max_length=4096
    )
    transformer = seeded(
        HiDreamImageTransformer2DModel,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=1,
        caption_channels=[32, 16],
        text_emb_dim=64,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(128, 128),
        llama_layers=(0, 1),
    )
    config = LlamaConfig(
        vocab_size=len(llama),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        attn_implementation="eager",
        pad_token_id=0,
        bos_token_id=llama.bos_token_id,
        eos_token_id=llama.eos_token_id,
    )
    pipe = HiDreamImagePipeline(
        transformer=sharpened(transformer),
        scheduler=flow_scheduler(),
        vae=tiny_vae(4, levels=2),
        text_encoder=clip_encoder(seed=2),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_encoder(seed=5),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(len(t5)),
        tokenizer_3=t5,
        text_encoder_4=seeded(LlamaForCausalLM, config, seed=3),
        tokenizer_4=llama,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    """T5; Llama's last states; and those of the first block, which the first site reads."""
    span, place = divmod(column, LENGTH)
    name = "encoder_hidden_states_t5" if span == 0 else "encoder_hidden_states_llama3"
    states = kwargs[name].clone()
    part = states if span == 0 else states[-1 if span == 1 else 0]
    part[row, place] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {name: states}


def _text_keys(call: ObservedCall, row: int) -> list[int]:
    """The last keys, behind the tokens that fill the image up to its largest size."""
    return list(range(call.key.shape[2] - 3 * LENGTH, call.key.shape[2]))


def _case(*, guided: bool = True) -> Case:
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS) if guided else PROMPTS[1:],
        "height": 64,
        "width": 96,
        # 4168 tokens attend to each other: one step shows it.
        "num_inference_steps": 1,
        "guidance_scale": 4.0 if guided else 1.0,
        "max_sequence_length": LENGTH,
        "output_type": "np",
    }
    if guided:
        arguments["negative_prompt"] = list(NEGATIVES)
    rows: Callable[[DenoiserCall], list[int]] = second_half if guided else every_row
    return Case(
        name="HiDreamImagePipeline",
        make=_make,
        call=arguments,
        grid=GRID,
        sites={
            "double": r"double_stream_blocks\.\d+\.block\.attn1",
            "single": r"single_stream_blocks\.\d+\.block\.attn1",
        },
        rows=rows,
        text_keys=_text_keys,
        disturb=_disturb,
        encoders=ENCODERS,
        negative={"negative_prompt": [NEGATIVES[1], "a box"]} if guided else None,
    )


CASES: dict[str, Callable[[], Case]] = {
    "HiDreamImagePipeline": _case,
    "HiDreamImagePipeline, no guidance": partial(_case, guided=False),
}
