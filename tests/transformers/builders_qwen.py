"""Qwen-Image: the text of a chat template, without its first 34 or 64 tokens, before the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from dense_oracle import Case, Encoder
from diffusers import QwenImageControlNetModel, QwenImageTransformer2DModel
from toy_models import (
    GRID,
    STEPS,
    even_calls,
    every_row,
    flow_scheduler,
    mask_picture,
    picture,
    seeded,
    sharpened,
    text_first,
)
from toy_qwen import qwen_encoder, qwen_processor, qwen_vae
from toy_tokenizers import NEGATIVES, PROMPTS, qwen2_tokenizer

HEIGHT, WIDTH = GRID[0] * 8, GRID[1] * 8
# Editing makes a reference of 1024 by 1024 pixels of every picture: an autoencoder of 6 levels
# makes few tokens of it.
EDIT_LEVELS = 6
EDIT_HEIGHT, EDIT_WIDTH = GRID[0] * 128, GRID[1] * 128


def _templates() -> tuple[str, ...]:
    """What the pipelines write around a prompt."""
    names = ("QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline")
    found = []
    for name in names:
        pipe = getattr(diffusers, name)
        arguments = dict.fromkeys(
            ("scheduler", "vae", "text_encoder", "tokenizer", "transformer", "processor")
        )
        if name == "QwenImagePipeline":
            arguments.pop("processor")
        found.append(pipe(**arguments).prompt_template_encode)
    return (*found, "Picture 1: ")


def _model(model: Any, **config: Any) -> Any:
    small = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (4, 2, 2),
    }
    return sharpened(seeded(model, **(small | config)))


def _make(name: str, *, control: dict[str, Any] | None = None, levels: int = 2) -> Any:
    tokenizer = qwen2_tokenizer(*_templates())
    parts: dict[str, Any] = {
        "transformer": _model(QwenImageTransformer2DModel),
        "scheduler": flow_scheduler(),
        "vae": qwen_vae(levels=levels),
        "text_encoder": qwen_encoder(tokenizer),
        "tokenizer": tokenizer,
    }
    if "Edit" in name:
        parts["processor"] = qwen_processor(tokenizer)
    if control is not None:
        parts["controlnet"] = _model(QwenImageControlNetModel, **control)
    pipe = getattr(diffusers, name)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _case(
    name: str,
    *,
    guided: bool = True,
    behind: int = 0,
    dropped: int = 34,
    grid: tuple[int, int] = GRID,
    call: dict[str, Any] | None = None,
    **make: Any,
) -> Case:
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "output_type": "np",
    }
    if guided:
        arguments |= {"negative_prompt": list(NEGATIVES), "true_cfg_scale": 3.0}
    arguments |= call or {}
    alone = isinstance(arguments["prompt"], str)
    other: Any = "a box" if alone else [NEGATIVES[1], "a box"][: len(arguments["prompt"])]
    return Case(
        name=name,
        make=partial(_make, name, **make),
        call=arguments,
        grid=grid,
        sites={"double": r"transformer_blocks\.\d+\.attn"},
        rows=even_calls if guided else every_row,
        encoders=(
            Encoder("qwen", "text_encoder", "tokenizer", lambda position: position - dropped),
        ),
        negative={"negative_prompt": other} if guided else None,
        **text_first(behind=behind, tokens=grid[0] * grid[1]),
    )


IMAGE = {"image": picture(HEIGHT, WIDTH), "strength": 0.9}
MASK = {"mask_image": mask_picture(HEIGHT, WIDTH)}
CONTROL = {"control_image": picture(HEIGHT, WIDTH)}
CONTROL_MASK = {"control_mask": mask_picture(HEIGHT, WIDTH)}
EDIT_SIZE = {"height": EDIT_HEIGHT, "width": EDIT_WIDTH}
# Inpainting takes the size of the reference, 6 by 9 tokens, whatever size is asked for.
# A picture for each prompt: the processor of transformers 5 wants one for each of its tokens.
EDITED = EDIT_SIZE | {"image": [picture(24, 36), picture(24, 36, seed=8)]}
# These pipelines take one prompt.
ALONE = EDIT_SIZE | {
    "image": picture(24, 36),
    "prompt": PROMPTS[1],
    "negative_prompt": NEGATIVES[0],
}
EDIT = {"levels": EDIT_LEVELS, "dropped": 64, "behind": 54}

CASES: dict[str, Callable[[], Case]] = {
    "QwenImagePipeline": partial(_case, "QwenImagePipeline"),
    "QwenImagePipeline, no guidance": partial(_case, "QwenImagePipeline", guided=False),
    "QwenImagePipeline, one prompt": partial(
        _case, "QwenImagePipeline", call={"prompt": PROMPTS[:1], "negative_prompt": NEGATIVES[:1]}
    ),
    "QwenImageImg2ImgPipeline": partial(_case, "QwenImageImg2ImgPipeline", call=IMAGE),
    "QwenImageInpaintPipeline": partial(_case, "QwenImageInpaintPipeline", call=IMAGE | MASK),
    "QwenImageControlNetPipeline": partial(
        _case, "QwenImageControlNetPipeline", call=CONTROL, control={"num_layers": 1}
    ),
    "QwenImageControlNetInpaintPipeline": partial(
        _case,
        "QwenImageControlNetInpaintPipeline",
        call=CONTROL | CONTROL_MASK,
        control={"num_layers": 1, "extra_condition_channels": 4},
    ),
    "QwenImageEditPipeline": partial(_case, "QwenImageEditPipeline", call=EDITED, **EDIT),
    "QwenImageEditPlusPipeline": partial(_case, "QwenImageEditPlusPipeline", call=ALONE, **EDIT),
    "QwenImageEditPlusPipeline, two references": partial(
        _case,
        "QwenImageEditPlusPipeline",
        call=ALONE | {"image": [picture(24, 36), picture(36, 24)]},
        **(EDIT | {"behind": 108}),
    ),
    "QwenImageEditInpaintPipeline": partial(
        _case, "QwenImageEditInpaintPipeline", call=EDITED | MASK, grid=(6, 9), **EDIT
    ),
}
