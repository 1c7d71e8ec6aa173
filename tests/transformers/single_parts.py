"""Parts that the toy pipelines share: encoders of text, autoencoders, schedulers, row layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from dense_oracle import Case, DenoiserCall, ObservedCall
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
)
from PIL import Image
from tokenizers_single import vocabulary_size
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaModel,
    Mistral3Config,
    Mistral3Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

PROMPTS = ["a red cat jumping on the mat", "two dogs"]
NEGATIVES = ["a bad picture", "bad"]
OTHER_NEGATIVES = ["the user", "image"]
# Text columns of the pipelines that pad to a length that the caller chooses.
COLUMNS = 20


def _encoder_hidden_states(kwargs: dict[str, Any], row: int) -> torch.Tensor:
    return kwargs["encoder_hidden_states"][row]


def _row_count(kwargs: dict[str, Any]) -> int:
    return len(kwargs["encoder_hidden_states"])


@dataclass(frozen=True)
class ToyCase(Case):
    """A case, and what the checks of this group ask for besides.

    Attributes:
        states: the text states ``(columns, width)`` that the denoiser is given for a row.
        row_count: the rows of a denoiser call.
        ids: the ids of a row, where the denoiser embeds the text itself.
        project: from the pipeline and an encoder's states to the denoiser's text states.
        unmix: takes away what mixes text, or text and image, before the first site.
        probe: the text columns to disturb; 0, 1 and the last without.
        of_image: 1 where the denoiser's latents are the image's, 0 where they are a condition's.
    """

    states: Callable[[dict[str, Any], int], torch.Tensor] = _encoder_hidden_states
    row_count: Callable[[dict[str, Any]], int] = _row_count
    ids: Callable[[dict[str, Any], int], torch.Tensor] | None = None
    project: Callable[[Any, torch.Tensor], torch.Tensor] = lambda pipe, states: states
    unmix: Callable[[Any], None] | None = None
    probe: tuple[int, ...] = ()
    of_image: Callable[[torch.Tensor], torch.Tensor] = torch.ones_like


def wake(module: Any, *, sharp: tuple[str, ...] = ()) -> Any:
    """Fill the parameters that start at zero, or with what was in memory, and scale some up.

    Args:
        sharp: ends of the names of weights that the attention compares; scaled up, so that maps
            differ from row to row.
    """
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if not weight.any() or not weight.isfinite().all() or name.endswith("pad_token"):
                weight.normal_(std=0.3)
            if name.endswith(sharp):
                weight.mul_(4)
    return module.eval()


def t5_encoder(tokenizer: Any, width: int = 32) -> Any:
    torch.manual_seed(20)
    config = T5Config(
        vocab_size=vocabulary_size(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
    )
    return wake(T5EncoderModel(config))


def umt5_encoder(tokenizer: Any, width: int = 32) -> Any:
    torch.manual_seed(21)
    config = UMT5Config(
        vocab_size=vocabulary_size(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
    )
    return wake(UMT5EncoderModel(config))


def _decoder_sizes(tokenizer: Any, width: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary_size(tokenizer),
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def gemma2_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(22)
    return wake(Gemma2Model(Gemma2Config(**_decoder_sizes(tokenizer, width))))


def gemma3_encoder(tokenizer: Any, width: int = 16) -> Any:
    """Gemma 3; the part that sees pictures has the least size."""
    torch.manual_seed(55)
    text = _decoder_sizes(tokenizer, width) | {"query_pre_attn_scalar": 8}
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return wake(Gemma3ForConditionalGeneration(config))


def qwen3_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(23)
    return wake(Qwen3Model(Qwen3Config(**_decoder_sizes(tokenizer, width))))


def image_vae(channels: int, levels: int = 2, **config: Any) -> AutoencoderKL:
    """An autoencoder whose pictures are ``2 ** (levels - 1)`` times the size of its latents."""
    torch.manual_seed(24)
    return AutoencoderKL(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=2,
        **config,
    ).eval()


def dc_vae() -> AutoencoderDC:
    """Sana's kind of autoencoder; its pictures are twice the size of its latents."""
    torch.manual_seed(25)
    blocks = ("ResBlock", "EfficientViTBlock")
    return AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=[1, 1],
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    ).eval()


def wan_vae() -> AutoencoderKLWan:
    """Wan's autoencoder: 8 pixels and 4 frames are one latent."""
    torch.manual_seed(26)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    ).eval()


def hunyuan_vae(channels: int) -> AutoencoderKLHunyuanVideo:
    """HunyuanVideo's autoencoder: 8 pixels and 4 frames are one latent."""
    torch.manual_seed(45)
    return AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def flow_scheduler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**config)


def rows_after(images: int) -> Callable[[DenoiserCall], list[int]]:
    """``[uncond, cond]`` in one call: the last rows."""
    return lambda call: list(range(images, 2 * images))


def rows_before(images: int) -> Callable[[DenoiserCall], list[int]]:
    """``[cond, uncond]`` in one call, or conditional rows alone: the first rows."""
    return lambda call: list(range(images))


def alternate_calls(images: int) -> Callable[[DenoiserCall], list[int]]:
    """Calls of their own, the conditional one first."""
    return lambda call: [] if call.number % 2 else list(range(images))


def columns_from(start: int, count: int = COLUMNS) -> Callable[[ObservedCall, int], list[int]]:
    """Text keys that follow each other."""
    return lambda call, row: list(range(start, start + count))


def columns_at_end(count: int = COLUMNS) -> Callable[[ObservedCall, int], list[int]]:
    """Text keys that are the last ones."""
    return lambda call, row: list(range(call.key.shape[2] - count, call.key.shape[2]))


def without(*refiners: str) -> Callable[[Any], None]:
    """Take layers away that mix the text before the first site."""

    def take(denoiser: Any) -> None:
        for name in refiners:
            setattr(denoiser, name, torch.nn.ModuleList())

    return take


class _Nothing(torch.nn.Module):
    def forward(self, states: torch.Tensor | None = None, *others: Any, **named: Any) -> Any:
        return torch.zeros_like(named["hidden_states"] if states is None else states)


def without_self_attention(blocks: str) -> Callable[[Any], None]:
    """Take away what mixes the positions of the image before the first site.

    Args:
        blocks: the attribute with the blocks, whose ``attn1`` it is.
    """

    def take(denoiser: Any) -> None:
        for block in getattr(denoiser, blocks):
            block.attn1 = _Nothing()

    return take


def without_attention(blocks: str, name: str) -> Callable[[Any], None]:
    """As :func:`without_self_attention`, of blocks whose self-attention has another name."""

    def take(denoiser: Any) -> None:
        for block in getattr(denoiser, blocks):
            setattr(block, name, _Nothing())

    return take


def picture(width: int, height: int) -> Image.Image:
    """A picture that an image-to-image pipeline starts from."""
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def clean_without_ftfy(module: Any) -> None:
    """Let a pipeline's module run without ftfy, which leaves sound text as it is."""
    if not hasattr(module, "ftfy"):
        module.ftfy = SimpleNamespace(fix_text=lambda text: text)


def llama_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(50)
    return wake(LlamaModel(LlamaConfig(**_decoder_sizes(tokenizer, width))))


def qwen_vl_encoder(tokenizer: Any, width: int = 32) -> Any:
    """Qwen2.5-VL; the part that sees pictures has the least size."""
    torch.manual_seed(51)
    text = _decoder_sizes(tokenizer, width) | {
        "rope_scaling": {"mrope_section": [2, 2, 4], "rope_type": "default", "type": "default"},
    }
    text["num_key_value_heads"] = 2
    del text["head_dim"]
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 2, "out_hidden_size": width}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"intermediate_size": 8})
    return wake(Qwen2_5_VLForConditionalGeneration(config))


def qwen3_vl_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(52)
    text = _decoder_sizes(tokenizer, width)
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 2, "out_hidden_size": width}
    config = Qwen3VLConfig(text_config=text, vision_config=vision | {"intermediate_size": 8})
    return wake(Qwen3VLModel(config))


def mistral3_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(53)
    text = {"model_type": "mistral"} | _decoder_sizes(tokenizer, width)
    vision = {
        "model_type": "pixtral",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    return wake(Mistral3Model(Mistral3Config(text_config=text, vision_config=vision)))


def t5gemma_encoder(tokenizer: Any, width: int = 16) -> Any:
    torch.manual_seed(54)
    sizes = _decoder_sizes(tokenizer, width) | {
        "layer_types": ["full_attention"] * 2,
        "query_pre_attn_scalar": 8,
        "dropout_rate": 0.0,
    }
    return wake(T5GemmaEncoder(T5GemmaModuleConfig(**sizes)))
