"""HunyuanVideo 1.5: video, then the valid columns of a picture, of ByT5 and of Qwen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from builders_hunyuan_image import QUOTED, _glyph_tokens
from dense_oracle import Case, Encoder
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    flow_scheduler,
    picture,
    wake,
)
from toy_models import t5_encoder
from toy_qwen import qwen_encoder
from toy_tokenizers import QWEN3_TEMPLATE, byt5_tokenizer, qwen2_tokenizer
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

GRID = (3, 3, 5)
TOKENS = 45
SYSTEM = "You are a helpful assistant. Describe the video"
COLUMNS, GLYPHS, PICTURE = 20, 16, 4
QUOTED_COUNT = len('Text "box". ') + 1


def _vae() -> Any:
    torch.manual_seed(57)
    return AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
    ).eval()


def _image_encoder() -> dict[str, Any]:
    torch.manual_seed(58)
    config = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    processor = SiglipImageProcessor(size={"height": 32, "width": 32})
    return {"image_encoder": SiglipVisionModel(config).eval(), "feature_extractor": processor}


def _pipeline(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        torch.manual_seed(0)
        transformer = HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            patch_size=1,
            patch_size_t=1,
            text_embed_dim=16,
            text_embed_2_dim=32,
            image_embed_dim=8,
            rope_axes_dim=(2, 4, 4),
            target_size=16,
        )
        tokenizer = qwen2_tokenizer(SYSTEM, template=QWEN3_TEMPLATE)
        more = _image_encoder() if cls is HunyuanVideo15ImageToVideoPipeline else {}
        pipe = cls(
            text_encoder=qwen_encoder(tokenizer, layers=3).model.language_model,
            tokenizer=tokenizer,
            transformer=wake(transformer, sharp=("attn.norm_q.weight", "attn.norm_k.weight")),
            vae=_vae(),
            scheduler=flow_scheduler(shift=7.0),
            text_encoder_2=t5_encoder(len(byt5_tokenizer())),
            tokenizer_2=byt5_tokenizer(),
            guider=ClassifierFreeGuidance(guidance_scale=4.0),
            **more,
        )
        # The sizes of the real ones are 1000, 256 and 729.
        pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = COLUMNS, GLYPHS
        pipe.vision_num_semantic_tokens = PICTURE
        pipe.system_message, pipe.prompt_template_encode_start_idx = SYSTEM, _dropped()
        return pipe

    return make


def _dropped() -> int:
    before = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    return len(qwen2_tokenizer(SYSTEM, template=QWEN3_TEMPLATE)(before).input_ids)


class _Unchanged(torch.nn.Module):
    def forward(self, states: torch.Tensor, *others: Any) -> torch.Tensor:
        return states


def _without_refiner(denoiser: Any) -> None:
    denoiser.context_embedder.token_refiner = _Unchanged()


def _order(kwargs: dict[str, Any], row: int) -> list[tuple[str, int]]:
    """Valid columns of the picture, ByT5 and Qwen, then the others of them in the same order."""
    masks = {
        "image_embeds": [bool(kwargs["image_embeds"].any())] * kwargs["image_embeds"].shape[1],
        "encoder_hidden_states_2": kwargs["encoder_attention_mask_2"][row].bool().tolist(),
        "encoder_hidden_states": kwargs["encoder_attention_mask"][row].bool().tolist(),
    }
    return [
        (name, place)
        for valid in (True, False)
        for name, mask in masks.items()
        for place, is_valid in enumerate(mask)
        if is_valid == valid
    ]


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    name, place = _order(kwargs, row)[column]
    states = kwargs[name].clone()
    states[row, place] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {name: states}


def _widened(states: torch.Tensor) -> torch.Tensor:
    """To the width of the widest encoder."""
    return torch.nn.functional.pad(states, (0, 32 - states.shape[-1]))


def _states(kwargs: dict[str, Any], row: int) -> torch.Tensor:
    return torch.stack([_widened(kwargs[name][row, at]) for name, at in _order(kwargs, row)])


def _case(name: str, cls: type, call: dict[str, Any], before: int = 0, **fields: Any) -> Case:
    dropped = _dropped()
    qwen = Encoder("qwen", "text_encoder", "tokenizer", lambda place: place - dropped + before)
    byt5 = Encoder(
        "byt5",
        "text_encoder_2",
        "tokenizer_2",
        lambda place: place + (before - QUOTED_COUNT),
        spans=_glyph_tokens,
    )
    is_quoted = call["prompt"] == QUOTED
    return ToyCase(
        name,
        _pipeline(cls),
        {"num_inference_steps": 2, "num_frames": 5, "output_type": "np"} | call,
        GRID,
        {"": r"transformer_blocks\.\d+\.attn"},
        text_keys=lambda call, row: list(range(TOKENS, TOKENS + COLUMNS + GLYPHS + PICTURE)),
        disturb=_disturb,
        states=_states,
        project=lambda pipe, states: _widened(states),
        unmix=_without_refiner,
        encoders=(qwen, byt5) if is_quoted else (qwen,),
        **fields,
    )


def hunyuan_video15() -> Case:
    """Calls of their own, conditional first; the columns of a picture are masked."""
    return _case(
        "HunyuanVideo15Pipeline",
        HunyuanVideo15Pipeline,
        {
            "prompt": PROMPTS,
            "negative_prompt": NEGATIVES,
            "height": 12,
            "width": 20,
            # The autoencoder decodes one video only.
            "output_type": "latent",
        },
        rows=alternate_calls(2),
        probe=(0, 1, 2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def hunyuan_video15_quoted() -> Case:
    """What stands in quotes is before the text, as ByT5 has it."""
    return _case(
        "HunyuanVideo15Pipeline quoted text",
        HunyuanVideo15Pipeline,
        {"prompt": QUOTED, "negative_prompt": NEGATIVES[0], "height": 12, "width": 20},
        QUOTED_COUNT,
        rows=alternate_calls(1),
        probe=(0, 1, QUOTED_COUNT + 1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def hunyuan_video15_of_picture() -> Case:
    """The columns of the picture come first."""
    return _case(
        "HunyuanVideo15ImageToVideoPipeline",
        HunyuanVideo15ImageToVideoPipeline,
        {"prompt": PROMPTS[0], "negative_prompt": NEGATIVES[0], "image": picture(20, 12)},
        PICTURE,
        rows=alternate_calls(1),
        probe=(0, 1, PICTURE + 1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


CASES: dict[str, Callable[[], Case]] = {
    "HunyuanVideo15Pipeline": hunyuan_video15,
    "HunyuanVideo15Pipeline quoted text": hunyuan_video15_quoted,
    "HunyuanVideo15ImageToVideoPipeline": hunyuan_video15_of_picture,
}
