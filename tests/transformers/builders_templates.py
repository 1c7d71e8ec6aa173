"""CogView, Ovis-Image and LongCat-Image: text before the image, of T5 or of a chat template."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
from builders_flux import flux_case
from dense_oracle import Case, Encoder
from diffusers import (
    CogVideoXDDIMScheduler,
    CogView3PlusTransformer2DModel,
    CogView4Transformer2DModel,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
)
from toy_models import (
    GRID,
    STEPS,
    even_calls,
    every_row,
    flow_scheduler,
    picture,
    second_half,
    seeded,
    sharpened,
    t5_encoder,
    text_first,
    tiny_vae,
)
from toy_qwen import qwen_encoder, qwen_processor
from toy_tokenizers import (
    NEGATIVES,
    PROMPTS,
    QWEN3_TEMPLATE,
    byte_level_tokenizer,
    qwen2_tokenizer,
    t5_tokenizer,
)
from transformers import GlmConfig, GlmModel, Qwen3Config, Qwen3Model

HEIGHT, WIDTH = GRID[0] * 4, GRID[1] * 4
OTHER_NEGATIVES = [NEGATIVES[1], "a box"]
# As in the vocabulary of GLM 4: every text begins with these two.
GLM_START = ("[gMASK]", "<sop>")


LONGCAT_PREFIX = (
    "As an image captioning expert, generate a descriptive text prompt based on an image content, "
    "suitable for input to a text-to-image model."
)
EDIT_PREFIX = (
    "<|im_start|>system\nAs an image editing expert, first analyze the content and attributes of "
    "the input image(s). Then, based on the user's editing instructions, clearly and precisely "
    "determine how to modify the given image(s), ensuring that only the specified parts are "
    "altered and all other aspects remain consistent with the original(s).<|im_end|>\n"
    "<|im_start|>user\n"
)


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _arguments(*, guided: bool, **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0 if guided else 1.0,
        "output_type": "np",
    }
    if guided:
        arguments["negative_prompt"] = list(NEGATIVES)
    return arguments | more


def _cogview3() -> Any:
    tokenizer = t5_tokenizer()
    transformer = seeded(
        CogView3PlusTransformer2DModel,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=16,
    )
    return _quiet(
        diffusers.CogView3PlusPipeline(
            transformer=sharpened(transformer),
            scheduler=CogVideoXDDIMScheduler(),
            vae=tiny_vae(4, levels=2),
            text_encoder=t5_encoder(len(tokenizer)),
            tokenizer=tokenizer,
        )
    )


def _cogview4(name: str, *, channels: int = 4) -> Any:
    tokenizer = byte_level_tokenizer(
        start=GLM_START,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )
    transformer = seeded(
        CogView4Transformer2DModel,
        patch_size=2,
        in_channels=channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
        rope_axes_dim=(8, 8),
    )
    config = GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _quiet(
        getattr(diffusers, name)(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(
                base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
            ),
            # Sizes have to be multiples of 16 pixels.
            vae=tiny_vae(4, levels=4),
            text_encoder=seeded(GlmModel, config, seed=3),
            tokenizer=tokenizer,
        )
    )


def _cogview_case(name: str, make: Callable[[], Any], *, guided: bool = True, **more: Any) -> Case:
    separate = "4" in name
    rows = (even_calls if separate else second_half) if guided else every_row
    encoder = "glm" if separate else "t5"
    sizes = {"height": GRID[0] * 16, "width": GRID[1] * 16} if separate else {}
    # In both the position in the padded ids, whichever side the padding is on.
    return Case(
        name=name,
        make=make,
        call=_arguments(guided=guided, max_sequence_length=32, **(sizes | more)),
        grid=GRID,
        sites={"double": r"transformer_blocks\.\d+\.attn1"},
        rows=rows,
        encoders=(Encoder(encoder, "text_encoder", "tokenizer", _cogview_column[encoder]),),
        negative={"negative_prompt": OTHER_NEGATIVES} if guided else None,
        **text_first(),
    )


_cogview_column: dict[str, Callable[[int], int]] = {
    "glm": lambda position: position,
    "t5": lambda position: position,
}


def _ovis() -> Any:
    system = "Describe the image by detailing the color, quantity, text, shape, size, texture, "
    system += "spatial relationships of the objects and background: "
    tokenizer = qwen2_tokenizer(system, template=QWEN3_TEMPLATE)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
    )
    transformer = seeded(
        OvisImageTransformer2DModel,
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 2, 2),
    )
    return _quiet(
        diffusers.OvisImagePipeline(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(),
            vae=tiny_vae(4, levels=2),
            text_encoder=seeded(Qwen3Model, config, seed=3),
            tokenizer=tokenizer,
        )
    )


def _ovis_case(*, guided: bool = True) -> Case:
    # A space ends the instruction, and is one token with the prompt's first word.
    encoder = Encoder("qwen3", "text_encoder", "tokenizer", lambda position: position - 28, " ")
    return flux_case(
        "OvisImagePipeline",
        _ovis,
        call=_arguments(guided=guided, max_sequence_length=32),
        guided=guided,
        encoders=(encoder,),
    )


def _longcat(name: str) -> Any:
    tokenizer = qwen2_tokenizer(LONGCAT_PREFIX)
    transformer = seeded(
        LongCatImageTransformer2DModel,
        patch_size=1,
        # The pipeline makes 16 channels, two by two, whatever the model has.
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    return _quiet(
        getattr(diffusers, name)(
            transformer=sharpened(transformer),
            scheduler=flow_scheduler(),
            # Editing makes a million pixels of every picture: 6 by 9 tokens of this one.
            vae=tiny_vae(16, levels=7 if "Edit" in name else 2),
            text_encoder=qwen_encoder(tokenizer),
            tokenizer=tokenizer,
            text_processor=qwen_processor(tokenizer),
        )
    )


def _longcat_case(name: str, *, guided: bool = True, call: dict[str, Any] | None = None) -> Case:
    arguments = _arguments(guided=guided, enable_prompt_rewrite=False)
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda position: position - 35)
    return flux_case(
        name,
        partial(_longcat, name),
        call=arguments | (call or {}),
        guided=guided,
        encoders=(encoder,),
    )


def _edit_case() -> Case:
    arguments = {
        "image": picture(24, 36),
        "prompt": PROMPTS[1],
        "negative_prompt": NEGATIVES[0],
        "num_inference_steps": STEPS,
        "guidance_scale": 4.0,
        "output_type": "np",
    }
    name = "LongCatImageEditPipeline"
    # Everything before the picture is dropped; the picture is a start, two tokens and an end.
    system = len(qwen2_tokenizer(LONGCAT_PREFIX)(EDIT_PREFIX)["input_ids"])
    encoder = Encoder("qwen", "text_encoder", "tokenizer", lambda position: position - system)
    return flux_case(
        name,
        partial(_longcat, name),
        call=arguments,
        guided=True,
        behind=54,
        encoders=(encoder,),
        negative={"negative_prompt": "a box"},
        grid=(6, 9),
    )


CONTROL = {"control_image": picture(GRID[0] * 16, GRID[1] * 16)}

CASES: dict[str, Callable[[], Case]] = {
    "CogView3PlusPipeline": partial(_cogview_case, "CogView3PlusPipeline", _cogview3),
    "CogView3PlusPipeline, no guidance": partial(
        _cogview_case, "CogView3PlusPipeline", _cogview3, guided=False
    ),
    "CogView4Pipeline": partial(
        _cogview_case, "CogView4Pipeline", partial(_cogview4, "CogView4Pipeline")
    ),
    "CogView4Pipeline, no guidance": partial(
        _cogview_case, "CogView4Pipeline", partial(_cogview4, "CogView4Pipeline"), guided=False
    ),
    "CogView4ControlPipeline": partial(
        _cogview_case,
        "CogView4ControlPipeline",
        partial(_cogview4, "CogView4ControlPipeline", channels=8),
        **CONTROL,
    ),
    "OvisImagePipeline": _ovis_case,
    "OvisImagePipeline, no guidance": partial(_ovis_case, guided=False),
    "LongCatImagePipeline": partial(_longcat_case, "LongCatImagePipeline"),
    "LongCatImageEditPipeline": _edit_case,
}
