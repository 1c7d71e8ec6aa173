"""Stable Diffusion 3: image before text, and text of CLIP before that of T5."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from dense_oracle import Case, DenoiserCall, Encoder
from diffusers import SD3ControlNetModel, SD3Transformer2DModel
from toy_models import (
    GRID,
    STEPS,
    clip_encoder,
    every_row,
    flow_scheduler,
    image_first,
    mask_picture,
    picture,
    rows_of,
    second_half,
    seeded,
    sharpened,
    t5_encoder,
    tiny_vae,
)
from toy_tokenizers import NEGATIVES, PROMPTS, clip_tokenizer, t5_tokenizer

HEIGHT, WIDTH = GRID[0] * 4, GRID[1] * 4
# Both CLIP encoders share the first columns: their channels lie next to each other.
ENCODERS = (
    Encoder("clip", "text_encoder", "tokenizer", lambda position: position),
    Encoder("clip", "text_encoder_2", "tokenizer_2", lambda position: position),
    Encoder("t5", "text_encoder_3", "tokenizer_3", lambda position: 77 + position),
)
OTHER_NEGATIVES = [NEGATIVES[1], "a box"]


def _transformer(model: Any = SD3Transformer2DModel, **config: Any) -> Any:
    small = {
        "sample_size": 32,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 64,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 64,
    }
    return sharpened(seeded(model, **(small | config)))


def _make(
    name: str, *, channels: int = 4, control: dict[str, Any] | None = None, **config: Any
) -> Any:
    tokenizer = t5_tokenizer(256)
    parts: dict[str, Any] = {
        "transformer": _transformer(in_channels=channels, out_channels=channels, **config),
        "scheduler": flow_scheduler(shift=3.0),
        "vae": tiny_vae(channels, levels=2),
        "text_encoder": clip_encoder(seed=2),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_encoder(seed=5),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5_encoder(len(tokenizer), width=64),
        "tokenizer_3": tokenizer,
    }
    if control is not None:
        parts["controlnet"] = _transformer(SD3ControlNetModel, **control)
    if "PAG" in name:
        parts["pag_applied_layers"] = "blocks.0"
    pipe = getattr(diffusers, name)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _middle_third(call: DenoiserCall) -> list[int]:
    third = rows_of(call) // 3
    return every_row(call)[third : 2 * third]


def _last_third(call: DenoiserCall) -> list[int]:
    return every_row(call)[2 * rows_of(call) // 3 :]


def _skipped_layers(call: DenoiserCall) -> list[int]:
    return every_row(call) if call.kwargs.get("skip_layers") is not None else []


def _first_half(call: DenoiserCall) -> list[int]:
    return every_row(call)[: rows_of(call) // 2]


def _no_skipped_layers(call: DenoiserCall) -> list[int]:
    return [] if call.kwargs.get("skip_layers") is not None else second_half(call)


def _case(
    name: str,
    *,
    rows: Callable[[DenoiserCall], list[int]] = second_half,
    perturbed: Callable[[DenoiserCall], list[int]] | None = None,
    guided: bool = True,
    call: dict[str, Any] | None = None,
    **make: Any,
) -> Case:
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0 if guided else 1.0,
        "max_sequence_length": 24,
        "output_type": "np",
    }
    if guided:
        arguments["negative_prompt"] = list(NEGATIVES)
    return Case(
        name=name,
        make=partial(_make, name, **make),
        call=arguments | (call or {}),
        grid=GRID,
        sites={"double": r"transformer_blocks\.\d+\.attn"},
        rows=rows,
        perturbed=perturbed,
        encoders=ENCODERS,
        negative={"negative_prompt": OTHER_NEGATIVES} if guided else None,
        **image_first(),
    )


IMAGE = {"image": picture(HEIGHT, WIDTH), "strength": 0.9}
MASKED = IMAGE | {"mask_image": mask_picture(HEIGHT, WIDTH)}
CONTROL = {"control_image": picture(HEIGHT, WIDTH)}
SKIPPED = {
    "skip_guidance_layers": [0],
    "skip_layer_guidance_start": 0.0,
    "skip_layer_guidance_stop": 1.0,
}
# As in SD 3.5 medium: norms of q and k, and a second attention that sees the image only.
DUAL = {"qk_norm": "rms_norm", "dual_attention_layers": (0,), "num_layers": 2}

CASES: dict[str, Callable[[], Case]] = {
    "StableDiffusion3Pipeline": partial(_case, "StableDiffusion3Pipeline"),
    "StableDiffusion3Pipeline, no guidance": partial(
        _case, "StableDiffusion3Pipeline", guided=False, rows=every_row
    ),
    "StableDiffusion3Pipeline, two images": partial(
        _case, "StableDiffusion3Pipeline", call={"num_images_per_prompt": 2}
    ),
    "StableDiffusion3Pipeline, dual layers": partial(_case, "StableDiffusion3Pipeline", **DUAL),
    "StableDiffusion3Pipeline, skipped layers": partial(
        _case,
        "StableDiffusion3Pipeline",
        rows=_no_skipped_layers,
        perturbed=_skipped_layers,
        call=SKIPPED | {"num_inference_steps": 3},
    ),
    "StableDiffusion3Img2ImgPipeline": partial(
        _case, "StableDiffusion3Img2ImgPipeline", call=IMAGE
    ),
    "StableDiffusion3InpaintPipeline": partial(
        _case, "StableDiffusion3InpaintPipeline", channels=16, call=MASKED
    ),
    "StableDiffusion3ControlNetPipeline": partial(
        _case, "StableDiffusion3ControlNetPipeline", control={"num_layers": 1}, call=CONTROL
    ),
    "StableDiffusion3ControlNetInpaintingPipeline": partial(
        _case,
        "StableDiffusion3ControlNetInpaintingPipeline",
        control={"num_layers": 1, "extra_conditioning_channels": 1},
        call=CONTROL | {"control_mask": mask_picture(HEIGHT, WIDTH)},
    ),
    "StableDiffusion3PAGPipeline": partial(
        _case, "StableDiffusion3PAGPipeline", rows=_middle_third, perturbed=_last_third
    ),
    "StableDiffusion3PAGPipeline, no guidance": partial(
        _case, "StableDiffusion3PAGPipeline", guided=False, rows=_first_half
    ),
    "StableDiffusion3PAGImg2ImgPipeline": partial(
        _case,
        "StableDiffusion3PAGImg2ImgPipeline",
        rows=_middle_third,
        perturbed=_last_third,
        call=IMAGE,
    ),
}
