"""Lumina-Next: cross-attention over Gemma; Lumina2: one sequence, [valid text, image]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    flow_scheduler,
    gemma2_encoder,
    image_vae,
    rows_before,
    wake,
    without,
)
from tokenizers_single import gemma_tokenizer, vocabulary_size
from transformers import GemmaConfig, GemmaForCausalLM

GRID = (3, 5)
CALL: dict[str, Any] = {"num_inference_steps": 2, "height": 48, "width": 80, "output_type": "np"}


def _lumina2_pipeline() -> Any:
    tokenizer = gemma_tokenizer(side="left")
    torch.manual_seed(0)
    transformer = Lumina2Transformer2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=16,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=16,
    )
    return Lumina2Pipeline(
        transformer=wake(transformer, sharp=("norm_q.weight", "norm_k.weight")),
        scheduler=flow_scheduler(),
        vae=image_vae(4, 4, shift_factor=0.1),
        text_encoder=gemma2_encoder(tokenizer),
        tokenizer=tokenizer,
    )


# As the pipeline sets it; the prompt follows.
SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of "
    "image-text alignment based on textual prompts or user prompts. <Prompt Start> "
)


def _lumina2_lengths(texts: list[str]) -> list[int]:
    return [len(gemma_tokenizer()(text).input_ids) for text in texts]


def _lumina2_case(name: str, prompts: list[str], call: dict[str, Any], **fields: Any) -> Case:
    lengths = _lumina2_lengths([SYSTEM + prompt for prompt in prompts])
    encoder = Encoder(
        "gemma",
        "text_encoder",
        "tokenizer",
        lambda place: place,
        " ",
    )
    return ToyCase(
        name,
        _lumina2_pipeline,
        CALL | {"prompt": prompts} | call,
        GRID,
        {"single": r"layers\.\d+\.attn"},
        image_queries=lambda call, row: lengths[row],
        text_keys=lambda call, row: list(range(lengths[row])),
        encoders=(encoder,),
        unmix=without("context_refiner", "noise_refiner"),
        **fields,
    )


def lumina2() -> Case:
    """Calls of their own, conditional first; two prompts of different length are masked."""
    return _lumina2_case(
        "Lumina2Pipeline",
        PROMPTS,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def lumina2_truncated() -> Case:
    """Guidance stops in the middle: the calls are cond, uncond, cond, cond."""
    return _lumina2_case(
        "Lumina2Pipeline truncated",
        PROMPTS[:1],
        {
            "negative_prompt": NEGATIVES[:1],
            "guidance_scale": 4.0,
            "cfg_trunc_ratio": 0.4,
            "num_inference_steps": 3,
        },
        rows=lambda call: [] if call.number == 1 else [0],
        negative={"negative_prompt": OTHER_NEGATIVES[:1]},
    )


def lumina2_without_guidance() -> Case:
    return _lumina2_case("Lumina2Pipeline without guidance", PROMPTS, {"guidance_scale": 1.0})


def gemma_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(30)
    config = GemmaConfig(
        vocab_size=vocabulary_size(tokenizer),
        head_dim=8,
        hidden_size=width,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return wake(GemmaForCausalLM(config))


def _lumina_pipeline(side: str) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = gemma_tokenizer(side=side)
        torch.manual_seed(0)
        transformer = LuminaNextDiT2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            cross_attention_dim=16,
        )
        return LuminaPipeline(
            transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
            scheduler=flow_scheduler(),
            vae=image_vae(4, 4),
            text_encoder=gemma_encoder(tokenizer),
            tokenizer=tokenizer,
        )

    return make


def _lumina_case(name: str, call: dict[str, Any], *, side: str = "right", **fields: Any) -> Case:
    return ToyCase(
        name,
        _lumina_pipeline(side),
        CALL | {"prompt": PROMPTS} | call,
        GRID,
        {"cross": r"layers\.\d+\.attn2"},
        rows=rows_before(2),
        text_keys=lambda call, row: list(range(call.key.shape[2])),
        encoders=(Encoder("gemma", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def lumina() -> Case:
    """Rows are [cond, uncond]."""
    return _lumina_case(
        "LuminaPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def lumina_padded_in_front() -> Case:
    """The padding is where the tokenizer's files say; Gemma's class puts it in front."""
    return _lumina_case("LuminaPipeline padded in front", {"guidance_scale": 1.0}, side="left")


CASES: dict[str, Callable[[], Case]] = {
    "Lumina2Pipeline": lumina2,
    "Lumina2Pipeline truncated": lumina2_truncated,
    "Lumina2Pipeline without guidance": lumina2_without_guidance,
    "LuminaPipeline": lumina,
    "LuminaPipeline padded in front": lumina_padded_in_front,
}
