"""HunyuanImage: two encoders' columns behind the image, in another order in each row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    AdaptiveProjectedMixGuidance,
    AutoencoderKLHunyuanImage,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
)
from toy_models import (
    GRID,
    STEPS,
    even_calls,
    every_row,
    flow_scheduler,
    image_first,
    seeded,
    sharpened,
    t5_encoder,
)
from toy_qwen import qwen_encoder
from toy_tokenizers import NEGATIVES, PROMPTS, byt5_tokenizer, qwen2_tokenizer

# What stands in quotes goes to ByT5, as the text 'Text "box". ' and an end token.
QUOTED = 'a red star says "box"'
GLYPHS = len('Text "box". ') + 1
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>"
)


def _make(*, embedded: bool = False) -> Any:
    tokenizer = qwen2_tokenizer(TEMPLATE)
    transformer = seeded(
        HunyuanImageTransformer2DModel,
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1),
        guidance_embeds=embedded,
        text_embed_dim=16,
        text_embed_2_dim=32,
        rope_axes_dim=(4, 4),
    )
    vae = seeded(
        AutoencoderKLHunyuanImage,
        seed=4,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        scaling_factor=0.5,
        spatial_compression_ratio=2,
        sample_size=32,
    )
    guiders = {}
    if not embedded:
        guiders["guider"] = AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1)
        guiders["ocr_guider"] = AdaptiveProjectedMixGuidance(guidance_scale=5.0)
    pipe = HunyuanImagePipeline(
        transformer=sharpened(transformer),
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=qwen_encoder(tokenizer, layers=3),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(len(byt5_tokenizer())),
        tokenizer_2=byt5_tokenizer(),
        **guiders,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    """Valid columns of ByT5, then of Qwen, then the padding of both in the same order."""
    masks = {
        name: kwargs[f"encoder_attention_mask{name}"][row].bool().tolist() for name in ("_2", "")
    }
    order = [
        (name, place)
        for valid in (True, False)
        for name, mask in masks.items()
        for place, is_valid in enumerate(mask)
        if is_valid == valid
    ]
    name, place = order[column]
    states = kwargs[f"encoder_hidden_states{name}"].clone()
    states[row, place] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {f"encoder_hidden_states{name}": states}


def _glyph_tokens(tokenizer: Any, prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
    start = prompt.index('"') + 1
    word = prompt[start : prompt.rindex('"')]
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return ids, [(start + i, start + i + 1) for i in range(len(ids))]


def _case(*, guided: bool = True, quoted: bool = False) -> Case:
    before = GLYPHS if quoted else 0
    arguments: dict[str, Any] = {
        "prompt": [QUOTED] if quoted else list(PROMPTS),
        "height": GRID[0] * 2,
        "width": GRID[1] * 2,
        "num_inference_steps": STEPS,
        "output_type": "np",
    }
    if guided:
        arguments["negative_prompt"] = NEGATIVES[: len(arguments["prompt"])]
    encoders = [Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - 34 + before)]
    if quoted:
        byt5 = Encoder("byt5", "text_encoder_2", "tokenizer_2", lambda place: place)
        encoders.append(
            Encoder(byt5.name, byt5.model, byt5.tokenizer, byt5.column, spans=_glyph_tokens)
        )
    return Case(
        name="HunyuanImagePipeline",
        make=partial(_make, embedded=not guided),
        call=arguments,
        grid=GRID,
        sites={
            "double": r"transformer_blocks\.\d+\.attn",
            "single": r"single_transformer_blocks\.\d+\.attn",
        },
        rows=even_calls if guided else every_row,
        disturb=_disturb,
        encoders=tuple(encoders),
        negative={"negative_prompt": [NEGATIVES[1], "a box"][: len(arguments["prompt"])]}
        if guided
        else None,
        # The gates of the refiner: without them only its residual connections are left.
        mixers=r"context_embedder\.token_refiner\.refiner_blocks\.\d+\.norm_out\.linear",
        **image_first(),
    )


CASES: dict[str, Callable[[], Case]] = {
    "HunyuanImagePipeline": _case,
    "HunyuanImagePipeline, quoted text": partial(_case, quoted=True),
    "HunyuanImagePipeline, embedded guidance": partial(_case, guided=False),
}
