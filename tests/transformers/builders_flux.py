"""FLUX.1: text of T5 before the image, in blocks of two streams and of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffusers
import torch
from dense_oracle import Case, DenoiserCall, Encoder
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from toy_models import (
    GRID,
    STEPS,
    clip_encoder,
    even_calls,
    every_row,
    flow_scheduler,
    mask_picture,
    picture,
    seeded,
    sharpened,
    t5_encoder,
    text_first,
    tiny_vae,
)
from toy_tokenizers import NEGATIVES, PROMPTS, clip_tokenizer, t5_tokenizer

# Two levels of the autoencoder, and two by two latents to a token.
HEIGHT, WIDTH = GRID[0] * 4, GRID[1] * 4
SITES = {
    "double": r"transformer_blocks\.\d+\.attn",
    "single": r"single_transformer_blocks\.\d+\.attn",
}
T5 = (Encoder("t5", "text_encoder_2", "tokenizer_2", lambda position: position),)


def flux_transformer(model: Any = FluxTransformer2DModel, **config: Any) -> Any:
    """One block of each kind, and 16 channels: 4 of a latent, two by two."""
    small = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 2, 2),
    }
    return sharpened(seeded(model, **(small | config)))


def _make(name: str, *, control: bool = False, ip_adapter: bool = False, **config: Any) -> Any:
    tokenizer = t5_tokenizer()
    parts: dict[str, Any] = {
        "transformer": flux_transformer(**config),
        "scheduler": flow_scheduler(),
        "vae": tiny_vae(4, levels=2),
        "text_encoder": clip_encoder(projected=False),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5_encoder(len(tokenizer)),
        "tokenizer_2": tokenizer,
    }
    if control:
        parts["controlnet"] = flux_transformer(FluxControlNetModel)
    pipe = getattr(diffusers, name)(**parts)
    if ip_adapter:
        load_ip_adapter(pipe.transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_ip_adapter(transformer: Any) -> None:
    """An image prompt's keys and values in the blocks of two streams."""
    torch.manual_seed(9)
    weights = {}
    for number in range(transformer.config.num_layers):
        processor = FluxIPAdapterAttnProcessor(hidden_size=16, cross_attention_dim=32)
        for part in ("to_k_ip", "to_v_ip"):
            for kind, tensor in getattr(processor, part)[0].state_dict().items():
                weights[f"{number}.{part}.{kind}"] = torch.randn_like(tensor)
    projection = diffusers.models.embeddings.ImageProjection(
        image_embed_dim=32, cross_attention_dim=32, num_image_text_embeds=4
    )
    renamed = {
        name.replace("image_embeds", "proj"): tensor
        for name, tensor in projection.state_dict().items()
    }
    transformer._load_ip_adapter_weights([{"image_proj": renamed, "ip_adapter": weights}])


def flux_case(
    name: str,
    make: Callable[[], Any],
    *,
    call: Mapping[str, Any],
    guided: bool = False,
    behind: int = 0,
    encoders: tuple[Encoder, ...] = T5,
    grid: tuple[int, int] = GRID,
    **more: Any,
) -> Case:
    """A case of FLUX or of what is made like it: guided runs call the denoiser twice a step."""
    rows: Callable[[DenoiserCall], list[int]] = even_calls if guided else every_row
    negative = {"negative_prompt": [NEGATIVES[1], "a box"]} if guided else None
    places = text_first(behind=behind, tokens=grid[0] * grid[1])
    return Case(
        name=name,
        make=make,
        call=call,
        grid=grid,
        sites=SITES,
        encoders=encoders,
        **({"rows": rows, "negative": negative} | places | more),
    )


def _case(
    name: str,
    *,
    guided: bool = False,
    behind: int = 0,
    call: dict[str, Any] | None = None,
    **make: Any,
) -> Case:
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "max_sequence_length": 24,
        "output_type": "np",
    }
    if guided:
        arguments |= {"negative_prompt": list(NEGATIVES), "true_cfg_scale": 3.0}
    return flux_case(
        name,
        partial(_make, name, **make),
        call=arguments | (call or {}),
        guided=guided,
        behind=behind,
    )


IMAGE = {"image": picture(HEIGHT, WIDTH), "strength": 0.9}
MASK = {"mask_image": mask_picture(HEIGHT, WIDTH)}
CONTROL = {"control_image": picture(HEIGHT, WIDTH)}
# A reference of 5 by 3 tokens, which stand behind those of the image.
REFERENCE = {"image": picture(20, 12), "max_area": HEIGHT * WIDTH, "_auto_resize": False}
IMAGE_PROMPT = {
    "ip_adapter_image_embeds": [torch.ones(1, 1, 32)],
    "negative_ip_adapter_image_embeds": [torch.zeros(1, 1, 32)],
}
# The picture's latents go in next to the noise: 16 channels more, and the mask's for Fill.
TWICE = {"in_channels": 32, "out_channels": 16}

CASES: dict[str, Callable[[], Case]] = {
    "FluxPipeline": partial(_case, "FluxPipeline"),
    "FluxPipeline, embedded guidance": partial(_case, "FluxPipeline", guidance_embeds=True),
    "FluxPipeline, true guidance": partial(_case, "FluxPipeline", guided=True),
    "FluxPipeline, two images": partial(
        _case, "FluxPipeline", guided=True, call={"num_images_per_prompt": 2}
    ),
    "FluxPipeline, image prompt": partial(
        _case, "FluxPipeline", ip_adapter=True, call=IMAGE_PROMPT
    ),
    "FluxImg2ImgPipeline": partial(_case, "FluxImg2ImgPipeline", call=IMAGE, guided=True),
    "FluxInpaintPipeline": partial(_case, "FluxInpaintPipeline", call=IMAGE | MASK, guided=True),
    "FluxFillPipeline": partial(
        _case, "FluxFillPipeline", call=IMAGE | MASK, in_channels=48, out_channels=16
    ),
    "FluxControlPipeline": partial(_case, "FluxControlPipeline", call=CONTROL, **TWICE),
    "FluxControlImg2ImgPipeline": partial(
        _case, "FluxControlImg2ImgPipeline", call=CONTROL | IMAGE, **TWICE
    ),
    "FluxControlInpaintPipeline": partial(
        _case, "FluxControlInpaintPipeline", call=CONTROL | IMAGE | MASK, **TWICE
    ),
    "FluxControlNetPipeline": partial(
        _case, "FluxControlNetPipeline", control=True, call=CONTROL, guided=True
    ),
    "FluxControlNetImg2ImgPipeline": partial(
        _case, "FluxControlNetImg2ImgPipeline", control=True, call=CONTROL | IMAGE
    ),
    "FluxControlNetInpaintPipeline": partial(
        _case, "FluxControlNetInpaintPipeline", control=True, call=CONTROL | IMAGE | MASK
    ),
    "FluxKontextPipeline": partial(_case, "FluxKontextPipeline", call=REFERENCE, behind=15),
    "FluxKontextPipeline, true guidance": partial(
        _case, "FluxKontextPipeline", call=REFERENCE, behind=15, guided=True
    ),
    "FluxKontextPipeline, no reference": partial(
        _case, "FluxKontextPipeline", call=REFERENCE | {"image": None}
    ),
    "FluxKontextInpaintPipeline": partial(
        _case,
        "FluxKontextInpaintPipeline",
        call=REFERENCE | MASK | {"image": picture(HEIGHT, WIDTH), "strength": 0.9},
        behind=24,
        guided=True,
    ),
}
