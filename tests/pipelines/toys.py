"""Every supported pipeline at toy size: diffusers' own classes with random weights.

``ALL_CASES`` has one entry for each stock class (``CASES`` those of one UNet and a ControlNet,
``MORE`` those with other parts or rows, ``DEPRECATED`` those without a class of ours);
``toy(case)`` is the pair of pipelines, the stock one and ours, each with a denoiser of its own and
the rest shared. Keys and queries are scaled up, so that the maps of two rows of a batch are far
from each other.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from toy_cases import (
    ALL_CASES,
    CASES,
    CONTROL,
    DEPRECATED,
    IMAGE,
    MORE,
    NINE,
    PROMPT,
    SITES,
    SIZE,
    Case,
    mask,
    picture,
)
from toy_parts import EMBEDDING, motion, sharpen, wake
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

__all__ = [
    "ALL_CASES",
    "CASES",
    "CONTROL",
    "DEPRECATED",
    "IMAGE",
    "MORE",
    "NINE",
    "PROMPT",
    "SITES",
    "SIZE",
    "Case",
    "build",
    "call",
    "mask",
    "parts_of",
    "picture",
    "second_encoder",
    "toy",
    "toy_controlnet",
    "toy_unet",
]

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


@cache
def _loaded() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(TINY, safety_checker=None)


def toy_unet(*, xl: bool = False, encoders: int = 1, ids: int = 6, **config: Any) -> Any:
    """A UNet of two levels with text in the lower."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "sample_size": 16,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32 * encoders,
        "attention_head_dim": 2,
    }
    if xl:
        settings |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 8 * ids,
        }
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**(settings | config)).eval()
    return sharpen(unet)


def toy_controlnet(unet: Any, seed: int = 1) -> ControlNetModel:
    """A ControlNet whose outputs are not the zeros that training starts from."""
    torch.manual_seed(seed)
    # As for every ControlNet of an inpainting UNet: it sees the latents only.
    narrow = (
        unet
        if unet.config.in_channels == 4
        else toy_unet(xl=_is_xl(unet), encoders=_encoders(unet))
    )
    net = ControlNetModel.from_unet(
        narrow, conditioning_channels=3, conditioning_embedding_out_channels=EMBEDDING
    )
    return wake(net)


def _is_xl(unet: Any) -> bool:
    return unet.config.addition_embed_type == "text_time"


def _encoders(unet: Any) -> int:
    return unet.config.cross_attention_dim // 32


def second_encoder() -> CLIPTextModelWithProjection:
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=848,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=32,
        bos_token_id=846,
        eos_token_id=847,
        pad_token_id=847,
    )
    return CLIPTextModelWithProjection(config).eval()


def parts_of(case: Case, **parts: Any) -> dict[str, Any]:
    """The constructor's arguments for the stock class of a case, and for ours.

    Its modules are copies: a test that converts or fuses one changes it for no other test.
    """
    taken = inspect.signature(case.stock.__init__).parameters
    base = _loaded()
    own = {name: copy.deepcopy(getattr(base, name)) for name in ("vae", "text_encoder")}
    parts = {"tokenizer": base.tokenizer, **own} | parts
    parts.setdefault("unet", toy_unet(xl=case.xl, encoders=1 + case.xl, **case.unet))
    parts.setdefault("scheduler", base.scheduler)
    if case.always:
        parts["scheduler"] = LCMScheduler.from_config(base.scheduler.config)
    if "prior_tokenizer" in taken:
        parts |= {"prior_tokenizer": base.tokenizer, "prior_text_encoder": second_encoder()}
    if "PAG" in case.name:
        parts["pag_applied_layers"] = "mid"
    if "ControlNet" in case.name and case.more in (None, motion):
        parts.setdefault("controlnet", toy_controlnet(parts["unet"]))
    if case.xl:
        parts.setdefault("text_encoder_2", second_encoder())
        parts.setdefault("tokenizer_2", base.tokenizer)
        parts["add_watermarker"] = False
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    if case.more is not None:
        parts |= case.more(parts["unet"])
    return {name: part for name, part in parts.items() if name in taken}


# Of the parts, those that no two pipelines share.
OWN = ("unet", "scheduler")


def build(cls: Any, parts: dict[str, Any], own: Iterable[str] = OWN) -> Any:
    """A pipeline with a denoiser and a scheduler of its own, or more of its parts."""
    pipe = cls(**(parts | copy.deepcopy({name: parts[name] for name in own})))
    pipe.set_progress_bar_config(disable=True)
    return pipe


_pairs: dict[str, tuple[Any, Any]] = {}


def toy(case: Case) -> tuple[Any, Any]:
    """The stock pipeline and ours, made once; leave them as they are."""
    key = f"{case.name} {case.unet}"
    if key not in _pairs:
        parts = parts_of(case)
        _pairs[key] = (build(case.stock, parts), build(case.ours, parts))
    return _pairs[key]


def call(case: Case, pipe: Any, prompt: Any = PROMPT, *, seed: int = 7, **kwargs: Any) -> Any:
    """Two denoiser calls from a seed."""
    settings: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 5.0}
    generator = torch.Generator().manual_seed(seed)
    settings |= case.call | {"generator": generator}
    return pipe(prompt=prompt, **(settings | kwargs))
