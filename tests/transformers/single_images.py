"""Image pipelines whose text is cross-attended, or one sequence with the image from the start."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from dense_oracle import Case, DenoiserCall, Encoder, ObservedCall
from diffusers import (
    DDIMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    ZImageImg2ImgPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from PIL import Image
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    columns_from,
    dc_vae,
    flow_scheduler,
    gemma2_encoder,
    image_vae,
    qwen3_encoder,
    rows_after,
    rows_before,
    t5_encoder,
    wake,
)
from tokenizers_single import gemma_tokenizer, qwen_tokenizer, t5_tokenizer


def picture(width: int, height: int) -> Image.Image:
    """A picture that an image-to-image pipeline starts from."""
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Z-Image: [image padded to 32, text padded to 32] in one sequence.
Z_GRID = (3, 5)


def _z_image(cls: type, **scheduler: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = qwen_tokenizer(side="left")
        torch.manual_seed(0)
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        )
        return cls(
            scheduler=flow_scheduler(**scheduler),
            vae=image_vae(4, shift_factor=0.1),
            text_encoder=qwen3_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=wake(transformer, sharp=("norm_q.weight", "norm_k.weight")),
        )

    return make


def qwen_template(prompt: str) -> str:
    """Z-Image's prompt as its tokenizer is given it."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def _z_columns(texts: list[str]) -> Callable[[ObservedCall, int], list[int]]:
    tokenizer = qwen_tokenizer()
    counts = [len(tokenizer(qwen_template(text)).input_ids) for text in texts]
    return lambda call, row: list(range(32, 32 + counts[row]))


def _z_disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    features = [states.clone() for states in kwargs["cap_feats"]]
    features[row][column] += torch.linspace(-3, 3, features[row].shape[-1])
    return kwargs | {"cap_feats": features}


def _without(*refiners: str) -> Callable[[Any], None]:
    """Take layers away that mix the text before the first site."""

    def take(denoiser: Any) -> None:
        for name in refiners:
            setattr(denoiser, name, torch.nn.ModuleList())

    return take


def _z_case(name: str, cls: type, texts: list[str], call: dict[str, Any], **fields: Any) -> Case:
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda place: place, qwen_template)
    return Case(
        name,
        _z_image(cls),
        {
            "prompt": PROMPTS[0],
            "num_inference_steps": 2,
            "height": 12,
            "width": 20,
            "output_type": "np",
            "max_sequence_length": 64,
        }
        | call,
        Z_GRID,
        {"single": r"layers\.\d+\.attention"},
        text_keys=_z_columns(texts),
        disturb=_z_disturb,
        encoders=(encoder,),
        text_mixes=True,
        extra={
            "states": lambda kwargs, row: kwargs["cap_feats"][row],
            "row_count": lambda kwargs: len(kwargs["cap_feats"]),
            "unmix": _without("context_refiner", "noise_refiner"),
        },
        **fields,
    )


def z_image() -> Case:
    """Two prompts with guidance: rows are [cond, uncond]."""
    return _z_case(
        "ZImagePipeline",
        ZImagePipeline,
        PROMPTS + NEGATIVES,
        {"prompt": PROMPTS, "negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_before(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def z_image_turbo() -> Case:
    """Without guidance every row is conditional; the two prompts differ in length."""
    return _z_case(
        "ZImagePipeline turbo",
        ZImagePipeline,
        PROMPTS,
        {"prompt": PROMPTS, "guidance_scale": 0.0},
        rows=rows_before(2),
    )


def z_image_truncated() -> Case:
    """Guidance stops in the middle: later calls have the conditional row only."""
    return _z_case(
        "ZImagePipeline truncated",
        ZImagePipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {"negative_prompt": NEGATIVES[0], "guidance_scale": 4.0, "cfg_truncation": 0.1},
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def z_image_img2img() -> Case:
    return _z_case(
        "ZImageImg2ImgPipeline",
        ZImageImg2ImgPipeline,
        [PROMPTS[0], NEGATIVES[0]],
        {
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "image": picture(20, 12),
            "num_inference_steps": 4,
            "strength": 0.5,
        },
        rows=rows_before(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


# PixArt: cross-attention over T5, padding masked.
PIXART_GRID = (4, 6)


def _pixart(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = t5_tokenizer()
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
        )
        return cls(
            tokenizer=tokenizer,
            text_encoder=t5_encoder(tokenizer),
            vae=image_vae(4),
            transformer=wake(transformer, sharp=("attn2.to_q.weight", "attn2.to_k.weight")),
            scheduler=DDIMScheduler(),
        )

    return make


def _pixart_case(name: str, cls: type, call: dict[str, Any], **fields: Any) -> Case:
    return Case(
        name,
        _pixart(cls),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 16,
            "width": 24,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
            "use_resolution_binning": False,
            "clean_caption": False,
        }
        | call,
        PIXART_GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        text_keys=columns_from(0),
        encoders=(Encoder("t5", "text_encoder", "tokenizer", lambda place: place),),
        **fields,
    )


def pixart_alpha() -> Case:
    return _pixart_case(
        "PixArtAlphaPipeline",
        PixArtAlphaPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def pixart_alpha_without_guidance() -> Case:
    return _pixart_case(
        "PixArtAlphaPipeline without guidance", PixArtAlphaPipeline, {"guidance_scale": 1.0}
    )


def pixart_sigma() -> Case:
    return _pixart_case(
        "PixArtSigmaPipeline",
        PixArtSigmaPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


# Sana: linear self-attention, cross-attention over Gemma behind an instruction.
SANA_GRID = (16, 32)


def _sana(cls: type, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer = gemma_tokenizer()
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            sample_size=32,
            **config,
        )
        scheduler = SCMScheduler() if cls is SanaSprintPipeline else flow_scheduler(shift=7.0)
        return cls(
            tokenizer=tokenizer,
            text_encoder=gemma2_encoder(tokenizer),
            vae=dc_vae(),
            transformer=wake(transformer, sharp=("attn2.to_q.weight", "attn2.to_k.weight")),
            scheduler=scheduler,
        )

    return make


def _sana_instruction(cls: type) -> str:
    return "\n".join(
        inspect.signature(cls.__call__).parameters["complex_human_instruction"].default
    )


def _sana_case(name: str, cls: type, call: dict[str, Any], config: Any, **fields: Any) -> Case:
    instruction = _sana_instruction(cls)
    length = len(gemma_tokenizer()(instruction).input_ids)
    encoder = Encoder(
        "gemma",
        "text_encoder",
        "tokenizer",
        lambda place: place - length + 2 if place >= length - 1 else -(place > 0),
        lambda prompt: instruction + prompt,
    )
    return Case(
        name,
        _sana(cls, **config),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 32,
            "width": 64,
            "output_type": "np",
            "max_sequence_length": COLUMNS,
            "use_resolution_binning": False,
        }
        | call,
        SANA_GRID,
        {"cross": r"transformer_blocks\.\d+\.attn2"},
        text_keys=columns_from(0),
        encoders=(encoder,),
        **fields,
    )


def sana() -> Case:
    """The instruction of the pipeline is in front of the prompt, not of the negative prompt."""
    return _sana_case(
        "SanaPipeline",
        SanaPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        {},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def sana_sprint() -> Case:
    return _sana_case(
        "SanaSprintPipeline",
        SanaSprintPipeline,
        {"guidance_scale": 4.0},
        {"qk_norm": "rms_norm_across_heads", "guidance_embeds": True},
    )


IMAGE_CASES: dict[str, Callable[[], Case]] = {
    "ZImagePipeline": z_image,
    "ZImagePipeline turbo": z_image_turbo,
    "ZImagePipeline truncated": z_image_truncated,
    "ZImageImg2ImgPipeline": z_image_img2img,
    "PixArtAlphaPipeline": pixart_alpha,
    "PixArtAlphaPipeline without guidance": pixart_alpha_without_guidance,
    "PixArtSigmaPipeline": pixart_sigma,
    "SanaPipeline": sana,
    "SanaSprintPipeline": sana_sprint,
}
