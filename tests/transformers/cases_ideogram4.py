"""Ideogram 4: [padding, text, image] in one stream; another transformer has no text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from builders_flux2 import flux2_vae
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
from diffusers.pipelines.ideogram4 import pipeline_ideogram4
from single_parts import PROMPTS, ToyCase, flow_scheduler, qwen3_vl_encoder, wake
from toy_tokenizers import QWEN2_TEMPLATE, qwen2_tokenizer

GRID = (3, 5)
COLUMNS = 96
BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)


def _tokenizer() -> Any:
    return qwen2_tokenizer("You are a helpful assistant.", template=QWEN2_TEMPLATE)


def _transformer(seed: int) -> Any:
    torch.manual_seed(seed)
    model = Ideogram4Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        intermediate_size=16,
        adaln_dim=8,
        llm_features_dim=2 * 16,
        mrope_section=(4, 2, 2),
    )
    return wake(model, sharp=("attention.norm_q.weight", "attention.norm_k.weight"))


def _pipeline() -> Any:
    tokenizer = _tokenizer()
    encoder = qwen3_vl_encoder(tokenizer)
    # The embedding goes through the first layer as it is, to be found again in the columns.
    with torch.no_grad():
        first = encoder.language_model.layers[0]
        first.self_attn.o_proj.weight.zero_()
        first.mlp.down_proj.weight.zero_()
    # The toy has two layers.
    pipeline_ideogram4.QWEN3_VL_ACTIVATION_LAYERS = (0, 1)
    return Ideogram4Pipeline(
        scheduler=flow_scheduler(),
        vae=flux2_vae(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=_transformer(0),
        unconditional_transformer=_transformer(1),
    )


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    prompts = [call["prompt"]] if isinstance(call["prompt"], str) else call["prompt"]
    images = call.get("num_images_per_prompt", 1)
    counts = [
        len(_tokenizer()(prompt.join(BEFORE)).input_ids)
        for prompt in prompts
        for _ in range(images)
    ]

    def keys(call: ObservedCall | None, row: int) -> list[int]:
        return list(range(COLUMNS - counts[row], COLUMNS))

    def disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
        states = kwargs["encoder_hidden_states"].clone()
        states[row, keys(None, row)[column]] += torch.linspace(-3, 3, states.shape[-1])
        return kwargs | {"encoder_hidden_states": states}

    def of_image(latents: torch.Tensor) -> torch.Tensor:
        mask = torch.ones_like(latents)
        mask[:, :COLUMNS] = 0
        return mask

    return ToyCase(
        name,
        _pipeline,
        {
            "height": 12,
            "width": 20,
            "num_inference_steps": 2,
            "guidance_scale": 4.0,
            "guidance_schedule": None,
            "max_sequence_length": COLUMNS,
            "output_type": "np",
        }
        | call,
        GRID,
        {"single": r"layers\.\d+\.attention"},
        image_queries=lambda call, row: COLUMNS,
        text_keys=keys,
        disturb=disturb,
        of_image=of_image,
        states=lambda kwargs, row: kwargs["encoder_hidden_states"][row, keys(None, row), ::2],
        **fields,
    )


def ideogram4() -> Case:
    """Padding is in front of the text."""
    count = len(_tokenizer()(PROMPTS[0].join(BEFORE)).input_ids)
    path = "text_encoder.language_model.embed_tokens"
    encoder = Encoder("qwen", path, "tokenizer", lambda place: place - (COLUMNS - count))
    return _case("Ideogram4Pipeline", {"prompt": PROMPTS[0]}, encoders=(encoder,))


def ideogram4_two_prompts() -> Case:
    return _case("Ideogram4Pipeline two prompts", {"prompt": PROMPTS, "num_images_per_prompt": 2})


CASES: dict[str, Callable[[], Case]] = {
    "Ideogram4Pipeline": ideogram4,
    "Ideogram4Pipeline two prompts": ideogram4_two_prompts,
}
