"""FLUX.2: a whole chat template as text, its padding too, before the image and its references."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from builders_flux import flux_case
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from toy_models import (
    GRID,
    STEPS,
    TOKENS,
    flow_scheduler,
    mask_picture,
    picture,
    seeded,
    sharpened,
)
from toy_tokenizers import (
    MISTRAL3_TEMPLATE,
    PROMPTS,
    QWEN3_TEMPLATE,
    byte_level_tokenizer,
    qwen2_tokenizer,
)
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.processing_utils import ProcessorMixin

HEIGHT, WIDTH = GRID[0] * 4, GRID[1] * 4
# As in the vocabulary of Mistral Small 3.1.
MISTRAL_SPECIALS = (
    *("<unk>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
)
MISTRAL = Encoder("mistral", "text_encoder", "tokenizer", lambda position: position)
QWEN3 = Encoder("qwen3", "text_encoder", "tokenizer", lambda position: position)


class TextProcessor(ProcessorMixin):
    """``PixtralProcessor`` without pictures, for which that class wants torchvision.

    What makes ids of messages is the base class's in both.
    """

    def __init__(self, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(tokenizer, chat_template=chat_template)


def _mistral(side: str) -> tuple[Any, Any]:
    """The processor and the language model of FLUX.2."""
    tokenizer = byte_level_tokenizer(
        (SYSTEM_MESSAGE,),
        start=("<s>",),
        specials=MISTRAL_SPECIALS,
        template=MISTRAL3_TEMPLATE,
        eos_token="</s>",
        pad_token="<pad>",
        padding_side=side,
    )
    processor = TextProcessor(tokenizer, chat_template=MISTRAL3_TEMPLATE)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 16,
            "max_position_embeddings": 512,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "sliding_window": None,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "image_size": 32,
            "patch_size": 16,
            "num_channels": 3,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return processor, seeded(Mistral3ForConditionalGeneration, config, seed=3)


def _qwen3(side: str) -> tuple[Any, Any]:
    """The tokenizer and the language model of FLUX.2 klein."""
    tokenizer = qwen2_tokenizer(template=QWEN3_TEMPLATE)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
    )
    return tokenizer, seeded(Qwen3ForCausalLM, config, seed=3)


def flux2_vae() -> Any:
    """Pictures are twice the size of its latents."""
    return seeded(
        AutoencoderKLFlux2,
        seed=4,
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
    )


def _make(name: str, *, side: str = "left", **options: Any) -> Any:
    klein = "Klein" in name
    tokenizer, encoder = (_qwen3 if klein else _mistral)(side)
    transformer = sharpened(
        seeded(
            Flux2Transformer2DModel,
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            timestep_guidance_channels=16,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=not klein,
        )
    )
    vae = flux2_vae()
    pipe = getattr(diffusers, name)(
        transformer=transformer,
        scheduler=flow_scheduler(),
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _case(
    name: str,
    *,
    guided: bool = False,
    behind: int = 0,
    call: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **make: Any,
) -> Case:
    klein = "Klein" in name
    length = 32 if klein else 64
    arguments: dict[str, Any] = {
        "prompt": list(PROMPTS),
        "height": HEIGHT,
        "width": WIDTH,
        "num_inference_steps": STEPS,
        "max_sequence_length": length,
        "text_encoder_out_layers": (1, 2),
        "output_type": "np",
    }
    if klein and "KV" not in name:
        arguments["guidance_scale"] = 4.0 if guided else 1.0
    # The negative prompt of klein is always empty: another one can only be given encoded.
    negative = {"negative_prompt_embeds": torch.ones(2, length, 32)} if guided else None
    return flux_case(
        name,
        partial(_make, name, **make),
        call=arguments | (call or {}),
        guided=guided,
        behind=behind,
        encoders=(QWEN3 if klein else MISTRAL,),
        **({"negative": negative} | (more or {})),
    )


def _image_queries_without_reference(call: ObservedCall, row: int) -> int:
    return call.query.shape[2] - TOKENS


# The smallest side that is taken is of 64 pixels: 20 by 16 tokens.
REFERENCE = {"image": picture(80, 64)}
# Keys of the reference are kept from the first step, and only text and image ask.
KEPT = {"image_queries": _image_queries_without_reference}
INPAINT = {
    "image": picture(HEIGHT, WIDTH),
    "mask_image": mask_picture(HEIGHT, WIDTH),
    "strength": 0.9,
}

CASES: dict[str, Callable[[], Case]] = {
    "Flux2Pipeline": partial(_case, "Flux2Pipeline"),
    "Flux2Pipeline, padding behind": partial(_case, "Flux2Pipeline", side="right"),
    "Flux2Pipeline, reference": partial(_case, "Flux2Pipeline", call=REFERENCE, behind=320),
    "Flux2KleinPipeline": partial(_case, "Flux2KleinPipeline", guided=True),
    "Flux2KleinPipeline, distilled": partial(
        _case, "Flux2KleinPipeline", is_distilled=True, call={"guidance_scale": 4.0}
    ),
    "Flux2KleinPipeline, reference": partial(
        _case, "Flux2KleinPipeline", guided=True, call=REFERENCE, behind=320
    ),
    "Flux2KleinInpaintPipeline": partial(
        _case, "Flux2KleinInpaintPipeline", guided=True, call=INPAINT, behind=24
    ),
    "Flux2KleinKVPipeline": partial(_case, "Flux2KleinKVPipeline"),
    "Flux2KleinKVPipeline, reference": partial(
        _case, "Flux2KleinKVPipeline", call=REFERENCE, behind=320, more=KEPT
    ),
}
