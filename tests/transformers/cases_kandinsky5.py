"""Kandinsky 5: cross-attention over Qwen2.5-VL behind a template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import Kandinsky5T2IPipeline, Kandinsky5Transformer3DModel
from diffusers.pipelines.kandinsky5 import pipeline_kandinsky_t2i
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    clean_without_ftfy,
    flow_scheduler,
    image_vae,
    qwen_vl_encoder,
    wake,
    without,
)
from toy_models import clip_encoder
from toy_tokenizers import clip_tokenizer, qwen2_tokenizer

# What is asked for is replaced by the nearest of the pipeline's sizes: 48 x 80 pixels.
GRID = (3, 5)
TEMPLATE = (
    "<|im_start|>system\nYou are a prompt engineer. Describe the image by detailing the color, "
    "shape, size, texture, quantity, text, spatial relationships of the objects and "
    "background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>"
)
DROPPED = 40


class _Processor:
    """A processor of text and pictures that is given text only."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, *, text: Any, images: None, videos: None, **options: Any) -> Any:
        return self.tokenizer(text, **options)

    def decode(self, ids: Any) -> str:
        return self.tokenizer.decode(ids)


def _pipeline() -> Any:
    clean_without_ftfy(pipeline_kandinsky_t2i)
    tokenizer = qwen2_tokenizer(TEMPLATE)
    torch.manual_seed(0)
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        in_text_dim=32,
        in_text_dim2=32,
        time_dim=16,
        out_visual_dim=16,
        patch_size=(1, 2, 2),
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 4, 8),
        visual_cond=False,
        attention_type="regular",
    )
    sharp = ("query_norm.weight", "key_norm.weight")
    pipe = Kandinsky5T2IPipeline(
        transformer=wake(transformer, sharp=sharp),
        vae=image_vae(16, 4, shift_factor=0.1),
        text_encoder=qwen_vl_encoder(tokenizer),
        tokenizer=_Processor(tokenizer),
        text_encoder_2=clip_encoder(projected=False),
        tokenizer_2=clip_tokenizer(),
        scheduler=flow_scheduler(shift=7.0),
    )
    assert pipe.prompt_template == TEMPLATE
    assert pipe.prompt_template_encode_start_idx == DROPPED
    # Width and height; the pipeline's sizes are too large here.
    pipe.resolutions = [(48, 48), (80, 48), (48, 80)]
    return pipe


def _case(name: str, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 96,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        GRID,
        {"cross": r"visual_transformer_blocks\.\d+\.cross_attention"},
        text_keys=lambda call, row: list(range(call.key.shape[2])),
        unmix=without("text_transformer_blocks"),
        encoders=(Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - DROPPED),),
        **fields,
    )


def kandinsky5() -> Case:
    """Calls of their own, conditional first, each as long as its longest text."""
    return _case(
        "Kandinsky5T2IPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def kandinsky5_without_guidance() -> Case:
    return _case("Kandinsky5T2IPipeline without guidance", {"guidance_scale": 1.0})


CASES: dict[str, Callable[[], Case]] = {
    "Kandinsky5T2IPipeline": kandinsky5,
    "Kandinsky5T2IPipeline without guidance": kandinsky5_without_guidance,
}
