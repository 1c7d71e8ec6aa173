"""PixArt: cross-attention over T5, padding masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    DDIMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPAGPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from single_parts import (
    COLUMNS,
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    image_vae,
    rows_after,
    t5_encoder,
    wake,
)
from tokenizers_single import t5_tokenizer

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
    return ToyCase(
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


def pixart_sigma_pag() -> Case:
    """Rows are [uncond, cond, perturbed]."""
    return _pixart_case(
        "PixArtSigmaPAGPipeline",
        PixArtSigmaPAGPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "pag_scale": 2.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def pixart_sigma_two_images() -> Case:
    """The images of one prompt are adjacent."""
    return _pixart_case(
        "PixArtSigmaPipeline two images",
        PixArtSigmaPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "num_images_per_prompt": 2},
        rows=rows_after(4),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


CASES: dict[str, Callable[[], Case]] = {
    "PixArtAlphaPipeline": pixart_alpha,
    "PixArtAlphaPipeline without guidance": pixart_alpha_without_guidance,
    "PixArtSigmaPipeline": pixart_sigma,
    "PixArtSigmaPipeline two images": pixart_sigma_two_images,
    "PixArtSigmaPAGPipeline": pixart_sigma_pag,
}
