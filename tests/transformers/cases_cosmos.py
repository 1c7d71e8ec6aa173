"""Cosmos 1 and 2: cross-attention over T5, in an image or a video."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    AutoencoderKLCosmos,
    Cosmos2TextToImagePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosTextToWorldPipeline,
    CosmosTransformer3DModel,
    CosmosVideoToWorldPipeline,
    EDMEulerScheduler,
)
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
    picture,
    t5_encoder,
    wake,
    wan_vae,
)
from tokenizers_single import t5_tokenizer

# One frame.
GRID = (3, 5)
# Of a video: 16 x 16 pixels are one token, and the first frame is one of its own.
VIDEO_GRID = (2, 3, 5)


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


def _pipeline(cls: type = Cosmos2TextToImagePipeline, **others: Any) -> Any:
    _resize_without_torchvision()
    tokenizer = t5_tokenizer()
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        # Of a video that is gone on with, one channel says which frames are given.
        in_channels=17 if "VideoToWorld" in cls.__name__ else 16,
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
    parts = {"vae": wan_vae(), "scheduler": flow_scheduler(use_karras_sigmas=True)}
    return cls(
        text_encoder=t5_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
        safety_checker=_Guardrail(),
        **(parts | others),
    )


def _cosmos1_parts() -> dict[str, Any]:
    """Its autoencoder makes eight frames of each latent frame but the first."""
    torch.manual_seed(46)
    vae = AutoencoderKLCosmos(
        latent_channels=16,
        encoder_block_out_channels=(8,) * 4,
        decode_block_out_channels=(8,) * 4,
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
    )
    return {
        "vae": vae.eval(),
        "scheduler": EDMEulerScheduler(
            sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min"
        ),
    }


def _case(
    name: str,
    call: dict[str, Any],
    make: Callable[[], Any] = _pipeline,
    grid: tuple[int, ...] = GRID,
    **fields: Any,
) -> Case:
    return ToyCase(
        name,
        make,
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 80,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
        }
        | call,
        grid,
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


def cosmos_video() -> Case:
    """Cosmos 1: the video of a text."""
    return _case(
        "CosmosTextToWorldPipeline",
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "num_frames": 9},
        lambda: _pipeline(CosmosTextToWorldPipeline, **_cosmos1_parts()),
        VIDEO_GRID,
        rows=alternate_calls(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def cosmos_video_of_picture() -> Case:
    """Cosmos 1: the first latent frame is that of the picture."""
    return _case(
        "CosmosVideoToWorldPipeline",
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "num_frames": 9,
            "image": picture(80, 48),
        },
        lambda: _pipeline(CosmosVideoToWorldPipeline, **_cosmos1_parts()),
        VIDEO_GRID,
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def cosmos2_video_of_picture() -> Case:
    """Cosmos 2: each latent frame has a timestep of its own."""
    return _case(
        "Cosmos2VideoToWorldPipeline",
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "num_frames": 5,
            "image": picture(80, 48),
        },
        lambda: _pipeline(Cosmos2VideoToWorldPipeline),
        VIDEO_GRID,
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


CASES: dict[str, Callable[[], Case]] = {
    "CosmosTextToWorldPipeline": cosmos_video,
    "CosmosVideoToWorldPipeline": cosmos_video_of_picture,
    "Cosmos2VideoToWorldPipeline": cosmos2_video_of_picture,
    "Cosmos2TextToImagePipeline": cosmos2,
    "Cosmos2TextToImagePipeline without guidance": cosmos2_without_guidance,
}
