"""OmniGen: a causal text, then the image, in one sequence; the text is embedded by the denoiser."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from dense_oracle import Case, Encoder
from diffusers import OmniGenPipeline, OmniGenTransformer2DModel
from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen
from single_parts import PROMPTS, ToyCase, flow_scheduler, image_vae, picture, rows_before, wake
from tokenizers_single import vocabulary_size
from toy_tokenizers import llama_tokenizer

GRID = (3, 5)
TOKENS = GRID[0] * GRID[1]


def _transform_without_torchvision() -> None:
    """Let the pipeline prepare pictures: as numbers from -1 to 1, channels first."""
    if hasattr(processor_omnigen, "transforms"):
        return

    def compose(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def apply(value: Any) -> Any:
            for step in steps:
                value = step(value)
            return value

        return apply

    processor_omnigen.transforms = SimpleNamespace(
        Compose=compose,
        Lambda=lambda function: function,
        ToTensor=lambda: lambda one: torch.tensor(np.array(one) / 255.0).permute(2, 0, 1).float(),
        Normalize=lambda mean, std, inplace: lambda tensor: (tensor - 0.5) / 0.5,
    )
    pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor


def _pipeline() -> Any:
    _transform_without_torchvision()
    tokenizer = llama_tokenizer(add_bos_token=True)
    torch.manual_seed(0)
    transformer = OmniGenTransformer2DModel(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=32,
        num_layers=2,
        in_channels=4,
        time_step_dim=4,
        pad_token_id=2,
        vocab_size=vocabulary_size(tokenizer),
        rope_scaling={"long_factor": [1, 1, 2, 2], "short_factor": [1, 1, 1, 1]},
    )
    return OmniGenPipeline(
        transformer=wake(transformer, sharp=("to_q.weight", "to_k.weight")),
        scheduler=flow_scheduler(invert_sigmas=True, num_train_timesteps=1),
        vae=image_vae(4, 4),
        tokenizer=tokenizer,
    )


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    ids = kwargs["input_ids"].clone()
    ids[row, column] = 5 if ids[row, column] != 5 else 6
    return kwargs | {"input_ids": ids}


# The template's line before the prompt ends so.
ENCODER = Encoder(
    "llama", "transformer.embed_tokens", "tokenizer", lambda place: place, "instructions\n"
)


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {"num_inference_steps": 2, "height": 48, "width": 80, "output_type": "np"} | call,
        GRID,
        {"single": r"layers\.\d+\.self_attn"},
        image_queries=lambda call, row: call.query.shape[2] - TOKENS,
        # One position of the time between the text and the image.
        text_keys=lambda call, row: list(range(call.key.shape[2] - TOKENS - 1)),
        disturb=_disturb,
        ids=lambda kwargs, row: kwargs["input_ids"][row],
        states=lambda kwargs, row: kwargs["input_ids"][row],
        row_count=lambda kwargs: len(kwargs["input_ids"]),
        **fields,
    )


def omnigen() -> Case:
    """Rows are [cond, uncond], always; the negative prompt is the pipeline's."""
    return _case("OmniGenPipeline", {"prompt": PROMPTS}, rows=rows_before(2), encoders=(ENCODER,))


def omnigen_with_picture() -> Case:
    """Rows are [cond, uncond, picture only]; the picture's tokens are among the text's."""
    return _case(
        "OmniGenPipeline picture",
        {
            "prompt": ["<img><|image_1|></img> two dogs"],
            "input_images": [[picture(48, 32)]],
        },
        rows=rows_before(1),
    )


CASES: dict[str, Callable[[], Case]] = {
    "OmniGenPipeline": omnigen,
    "OmniGenPipeline picture": omnigen_with_picture,
}
