"""Qwen2.5-VL and the autoencoder of Qwen-Image at toy size."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLQwenImage
from toy_models import seeded
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class ImageTextProcessor(Qwen2VLProcessor):
    """The processor without the one for videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument_name == "video_processor":
            return None
        return super().check_argument_for_proper_class(argument_name, argument)


def qwen_processor(tokenizer: Any) -> ImageTextProcessor:
    """Pictures become two by two tokens, or so, whatever their size."""
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=56 * 56)
    return ImageTextProcessor(image_processor=images, tokenizer=tokenizer, video_processor=None)


def qwen_encoder(tokenizer: Any, *, layers: int = 2, width: int = 16) -> Any:
    """The language model with its tower for pictures."""
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width,
            "intermediate_size": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_scaling": {
                "mrope_section": [width // 16, width // 16, width // 8],
                "rope_type": "default",
                "type": "default",
            },
            "rope_theta": 1000000.0,
            "vocab_size": len(tokenizer),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return seeded(Qwen2_5_VLForConditionalGeneration, config, seed=3)


def qwen3_vl_generator(tokenizer: Any, *, layers: int = 2, width: int = 16) -> Any:
    """Qwen3-VL with its tower for pictures, which takes them as :func:`qwen_processor` does."""
    marks = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": width,
            "intermediate_size": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "rope_parameters": {
                "mrope_section": [2, 1, 1],
                "rope_type": "default",
                "rope_theta": 10000.0,
            },
            "vocab_size": len(tokenizer),
            "bos_token_id": None,
            "eos_token_id": None,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "patch_size": 14,
            "deepstack_visual_indexes": [0],
        },
        **marks,
    )
    return seeded(Qwen3VLForConditionalGeneration, config, seed=5)


def qwen_vae(*, levels: int = 2) -> Any:
    """An autoencoder of 4 channels that makes pictures ``2 ** levels`` times smaller."""
    return seeded(
        AutoencoderKLQwenImage,
        seed=4,
        base_dim=2,
        z_dim=4,
        dim_mult=[1] * (levels + 1),
        num_res_blocks=0,
        temperal_downsample=[False] * levels,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
