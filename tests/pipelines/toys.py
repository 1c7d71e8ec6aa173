"""Every supported pipeline at toy size: diffusers' own classes with random weights.

``CASES`` has one entry for each stock class; ``toy(case)`` is the pair of pipelines, the stock one
and ours, each with a denoiser of its own and the rest shared. Keys and queries are scaled up, so
that the maps of two rows of a batch are far from each other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel, LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

import diffusers_rdaam

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"
PROMPT = "a red cat near a house"
# One down, one mid, two up.
SITES = 4


def picture(seed: int = 0) -> Image.Image:
    """64 pixels high and 96 wide."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask() -> Image.Image:
    pixels = np.zeros((64, 96), dtype=np.uint8)
    pixels[16:56, 24:80] = 255
    return Image.fromarray(pixels)


IMAGE = {"image": picture(), "num_inference_steps": 4, "strength": 0.5}
SIZE = {"height": 64, "width": 96}
CONTROL = {"control_image": picture(1)}


@dataclass(frozen=True)
class Case:
    """One stock class: the UNet that it takes, and a call of it that has two steps.

    Args:
        name: the stock class's name without ``Pipeline``.
        call: arguments beside the prompt.
        unet: configuration beside the toy's.
        first: the conditional rows are the first of a guided call, not the last.
        always: every row is conditional, with any guidance.
    """

    name: str
    call: dict[str, Any]
    unet: dict[str, Any] = field(default_factory=dict)
    first: bool = False
    always: bool = False

    @property
    def xl(self) -> bool:
        return "XL" in self.name

    @property
    def stock(self) -> Any:
        return getattr(diffusers, f"{self.name}Pipeline")

    @property
    def ours(self) -> Any:
        return getattr(diffusers_rdaam, f"{self.name}RDAAMPipeline")


def _cases() -> list[Case]:
    inpaint = IMAGE | {"mask_image": mask()} | SIZE
    cases = []
    for name in ("StableDiffusion", "StableDiffusionXL"):
        control = f"{name}ControlNet"
        cases += [
            Case(name, SIZE),
            Case(f"{name}Img2Img", IMAGE),
            Case(f"{name}Inpaint", inpaint),
            Case(control, SIZE | {"image": picture(1)}),
            Case(f"{control}Img2Img", IMAGE | CONTROL | SIZE),
            Case(f"{control}Inpaint", inpaint | CONTROL),
        ]
    pix2pix = {"image": picture()}
    eight = {"in_channels": 8}
    lcm = {"time_cond_proj_dim": 16}
    cases += [
        Case("StableDiffusionInstructPix2Pix", pix2pix, eight, first=True),
        Case("StableDiffusionXLInstructPix2Pix", pix2pix | SIZE, eight, first=True),
        Case("LatentConsistencyModel", SIZE, lcm, always=True),
        Case("LatentConsistencyModelImg2Img", IMAGE | {"num_inference_steps": 2}, lcm, always=True),
    ]
    return cases


CASES = {case.name: case for case in _cases()}
NINE = {
    name: Case(name, CASES[name].call, {"in_channels": 9})
    for name in CASES
    if name.endswith("Inpaint")
}


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
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
                weight.mul_(4)
    return unet


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
        narrow, conditioning_channels=3, conditioning_embedding_out_channels=(4, 8, 8, 16)
    )
    with torch.no_grad():
        for weight in net.parameters():
            if not weight.any():
                weight.normal_(std=0.3)
    return net.eval()


def _is_xl(unet: Any) -> bool:
    return unet.config.addition_embed_type == "text_time"


def _encoders(unet: Any) -> int:
    return unet.config.cross_attention_dim // 32


@cache
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
    """The constructor's arguments for the stock class of a case, and for ours."""
    base = _loaded()
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer")} | parts
    parts.setdefault("unet", toy_unet(xl=case.xl, encoders=1 + case.xl, **case.unet))
    parts.setdefault("scheduler", base.scheduler)
    if case.always:
        parts["scheduler"] = LCMScheduler.from_config(base.scheduler.config)
    if "ControlNet" in case.name:
        parts.setdefault("controlnet", toy_controlnet(parts["unet"]))
    if case.xl:
        parts.setdefault("text_encoder_2", second_encoder())
        parts.setdefault("tokenizer_2", base.tokenizer)
        parts["add_watermarker"] = False
    else:
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    return parts


def build(cls: Any, parts: dict[str, Any]) -> Any:
    """A pipeline with a denoiser and a scheduler of its own."""
    own = {name: copy.deepcopy(parts[name]) for name in ("unet", "scheduler")}
    pipe = cls(**(parts | own))
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
    return pipe(prompt, **(settings | kwargs))
