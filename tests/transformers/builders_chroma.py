"""Chroma, Bria and AuraFlow: text of a T5 encoder before the image, in blocks like FLUX.1's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from builders_flux import flux_case
from dense_oracle import Case, Encoder
from diffusers import AuraFlowTransformer2DModel, BriaTransformer2DModel, ChromaTransformer2DModel
from toy_models import (
    GRID,
    STEPS,
    every_row,
    flow_scheduler,
    mask_picture,
    picture,
    second_half,
    seeded,
    sharpened,
    t5_encoder,
    text_first,
    tiny_vae,
)
from toy_tokenizers import NEGATIVES, PROMPTS, llama_tokenizer, t5_tokenizer
from transformers import UMT5EncoderModel

T5 = Encoder("t5", "text_encoder", "tokenizer", lambda position: position)
LENGTH = 24


def _arguments(*, side: int, guided: bool) -> dict[str, Any]:
    """A call for pictures of ``side`` pixels to an image token."""
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": GRID[0] * side,
        "width": GRID[1] * side,
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0 if guided else 1.0,
        "max_sequence_length": LENGTH,
        "output_type": "np",
    }
    if guided:
        arguments["negative_prompt"] = list(NEGATIVES)
    return arguments


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _chroma(name: str) -> Any:
    tokenizer = t5_tokenizer()
    transformer = seeded(
        ChromaTransformer2DModel,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 2, 2),
        approximator_hidden_dim=16,
        approximator_layers=1,
        approximator_num_channels=8,
    )
    # Inpainting reads this; the model class has no argument for it, released configurations have.
    transformer.register_to_config(guidance_embeds=False)
    return _quiet(
        getattr(diffusers, name)(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(),
            vae=tiny_vae(4, levels=2),
            text_encoder=t5_encoder(len(tokenizer)),
            tokenizer=tokenizer,
        )
    )


def _chroma_case(
    name: str, *, guided: bool = True, call: dict[str, Any] | None = None, **make: Any
) -> Case:
    return flux_case(
        name,
        partial(_chroma, name, **make),
        call=_arguments(side=4, guided=guided) | (call or {}),
        guided=guided,
        encoders=(T5,),
    )


def _bria() -> Any:
    tokenizer = t5_tokenizer()
    transformer = seeded(
        BriaTransformer2DModel,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=None,
        axes_dims_rope=(0, 4, 4),
    )
    return _quiet(
        diffusers.BriaPipeline(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(),
            vae=tiny_vae(4, levels=2),
            text_encoder=t5_encoder(len(tokenizer)),
            tokenizer=tokenizer,
        )
    )


def _bria_case(*, guided: bool = True) -> Case:
    return flux_case(
        "BriaPipeline",
        _bria,
        call=_arguments(side=4, guided=guided),
        guided=guided,
        encoders=(T5,),
        rows=second_half if guided else every_row,
    )


def _aura(side: str) -> Any:
    tokenizer = llama_tokenizer(padding_side=side, pad_token="</s>")
    transformer = seeded(
        AuraFlowTransformer2DModel,
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=32,
        out_channels=4,
        pos_embed_max_size=256,
    )
    return _quiet(
        diffusers.AuraFlowPipeline(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(),
            vae=tiny_vae(4, levels=2),
            text_encoder=t5_encoder(len(tokenizer), model=UMT5EncoderModel),
            tokenizer=tokenizer,
        )
    )


def _aura_case(*, guided: bool = True, side: str = "right") -> Case:
    return Case(
        name="AuraFlowPipeline",
        make=partial(_aura, side),
        call=_arguments(side=4, guided=guided),
        grid=GRID,
        sites={
            "double": r"joint_transformer_blocks\.\d+\.attn",
            "single": r"single_transformer_blocks\.\d+\.attn",
        },
        rows=second_half if guided else every_row,
        encoders=(T5,),
        negative={"negative_prompt": [NEGATIVES[1], "a box"]} if guided else None,
        # Eight learned tokens come before the text.
        **text_first(skip=8),
    )


IMAGE = {"image": picture(GRID[0] * 4, GRID[1] * 4), "strength": 0.9}
MASK = {"mask_image": mask_picture(GRID[0] * 4, GRID[1] * 4)}

CASES: dict[str, Callable[[], Case]] = {
    "ChromaPipeline": partial(_chroma_case, "ChromaPipeline"),
    "ChromaPipeline, no guidance": partial(_chroma_case, "ChromaPipeline", guided=False),
    "ChromaImg2ImgPipeline": partial(_chroma_case, "ChromaImg2ImgPipeline", call=IMAGE),
    "ChromaInpaintPipeline": partial(_chroma_case, "ChromaInpaintPipeline", call=IMAGE | MASK),
    "BriaPipeline": _bria_case,
    "BriaPipeline, no guidance": partial(_bria_case, guided=False),
    "AuraFlowPipeline": _aura_case,
    "AuraFlowPipeline, padding in front": partial(_aura_case, side="left"),
    "AuraFlowPipeline, no guidance": partial(_aura_case, guided=False),
}
