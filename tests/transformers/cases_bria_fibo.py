"""Bria Fibo: text first in two kinds of blocks, of prompts that are padded on either side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import (
    AutoencoderKLWan,
    BriaFiboEditPipeline,
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    flow_scheduler,
    picture,
    rows_after,
    wake,
)
from tokenizers_single import llama_tokenizer, vocabulary_size
from transformers import SmolLM3Config, SmolLM3ForCausalLM

GRID = (3, 5)
EDIT = '{"edit_instruction": "a red cat jumping"}'


def _encoder(tokenizer: Any) -> Any:
    torch.manual_seed(55)
    config = SmolLM3Config(
        vocab_size=vocabulary_size(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return wake(SmolLM3ForCausalLM(config))


def _vae() -> Any:
    """Wan 2.2's autoencoder: 16 pixels are one latent."""
    torch.manual_seed(56)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
    ).eval()


def _pipeline(cls: type, side: str) -> Any:
    tokenizer = llama_tokenizer(side=side)
    torch.manual_seed(0)
    transformer = BriaFiboTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[0, 4, 4],
        text_encoder_dim=16,
    )
    pipe = cls(
        transformer=wake(transformer, sharp=("attn.norm_q.weight", "attn.norm_k.weight")),
        scheduler=flow_scheduler(),
        vae=_vae(),
        text_encoder=_encoder(tokenizer),
        tokenizer=tokenizer,
    )
    assert pipe.vae_scale_factor == 16
    return pipe


def _text_keys(side: str, texts: list[str]) -> Callable[[ObservedCall, int], list[int]]:
    """What is padding to the longest of a batch is in front with such a tokenizer."""
    counts = [len(llama_tokenizer()(text).input_ids) for text in texts]
    half = len(counts) // 2
    longest = [max(counts[:half])] * half + [max(counts[half:])] * half if half else counts

    def keys(call: ObservedCall, row: int) -> list[int]:
        start = longest[row] - counts[row] if side == "left" else 0
        return list(range(start, start + counts[row]))

    return keys


def _case(
    name: str, cls: type, call: dict[str, Any], texts: list[str], side: str = "right", **fields: Any
) -> Case:
    keys = _text_keys(side, texts)
    length = max(len(llama_tokenizer()(text).input_ids) for text in texts)

    def disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
        layers = [layer.clone() for layer in kwargs["text_encoder_layers"]]
        place = keys(None, row)[column]
        layers[0][row, place] += torch.linspace(-3, 3, layers[0].shape[-1])
        return kwargs | {"text_encoder_layers": layers}

    return ToyCase(
        name,
        partial(_pipeline, cls, side),
        {"num_inference_steps": 2, "height": 48, "width": 80, "output_type": "np"} | call,
        GRID,
        {
            "double": r"transformer_blocks\.\d+\.attn",
            "single": r"single_transformer_blocks\.\d+\.attn",
        },
        image_queries=lambda call, row: length,
        text_keys=keys,
        disturb=disturb,
        # Of the last layer: the embedding itself has two layers side by side.
        states=lambda kwargs, row: kwargs["text_encoder_layers"][-1][row],
        **fields,
    )


ENCODERS = (Encoder("smollm", "text_encoder", "tokenizer", lambda place: place),)


def fibo(side: str = "right") -> Case:
    """``[uncond, cond]``, each padded to its longest text, then both to the longer."""
    return _case(
        "BriaFiboPipeline",
        BriaFiboPipeline,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        NEGATIVES + PROMPTS,
        side,
        rows=rows_after(2),
        encoders=ENCODERS if side == "right" else (),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def fibo_without_guidance() -> Case:
    """Nothing is padded, so there is no mask."""
    return _case(
        "BriaFiboPipeline without guidance",
        BriaFiboPipeline,
        {"prompt": PROMPTS[0], "guidance_scale": 1.0},
        PROMPTS[:1],
        encoders=ENCODERS,
    )


def _of_image(latents: torch.Tensor) -> torch.Tensor:
    mask = torch.ones_like(latents)
    mask[:, GRID[0] * GRID[1] :] = 0
    return mask


def fibo_edit() -> Case:
    """The positions of the picture are behind those of the image."""
    return _case(
        "BriaFiboEditPipeline",
        BriaFiboEditPipeline,
        {
            "prompt": EDIT,
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(80, 48),
        },
        [NEGATIVES[0], EDIT],
        of_image=_of_image,
        rows=rows_after(1),
        encoders=ENCODERS,
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


CASES: dict[str, Callable[[], Case]] = {
    "BriaFiboPipeline": fibo,
    "BriaFiboPipeline padding in front": partial(fibo, "left"),
    "BriaFiboPipeline without guidance": fibo_without_guidance,
    "BriaFiboEditPipeline": fibo_edit,
}
