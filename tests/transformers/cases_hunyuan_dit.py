"""HunyuanDiT: cross-attention over BERT's 77 columns and T5's 256."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dense_oracle import Case, Encoder
from diffusers import (
    DDPMScheduler,
    HunyuanDiT2DControlNetModel,
    HunyuanDiT2DModel,
    HunyuanDiTControlNetPipeline,
    HunyuanDiTPAGPipeline,
    HunyuanDiTPipeline,
)
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    columns_from,
    image_vae,
    picture,
    rows_after,
    t5_encoder,
    wake,
)
from tokenizers_single import bert_tokenizer, t5_tokenizer, vocabulary_size
from transformers import BertConfig, BertModel

GRID = (3, 5)
SIZES: dict[str, Any] = {
    "sample_size": 16,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "in_channels": 4,
    "cross_attention_dim": 32,
    "cross_attention_dim_t5": 32,
    "pooled_projection_dim": 16,
    "hidden_size": 24,
    "activation_fn": "gelu-approximate",
}


def bert_encoder(tokenizer: Any) -> Any:
    torch.manual_seed(31)
    config = BertConfig(
        vocab_size=vocabulary_size(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=77,
    )
    return wake(BertModel(config))


def _pipeline(cls: type) -> Callable[[], Any]:
    def make() -> Any:
        tokenizer, tokenizer_2 = bert_tokenizer(), t5_tokenizer()
        torch.manual_seed(0)
        layers = 4 if cls is HunyuanDiTControlNetPipeline else 2
        transformer = HunyuanDiT2DModel(**SIZES, num_layers=layers)
        more = {}
        if cls is HunyuanDiTControlNetPipeline:
            torch.manual_seed(1)
            net = HunyuanDiT2DControlNetModel(**SIZES, transformer_num_layers=layers)
            more["controlnet"] = wake(net)
        return cls(
            vae=image_vae(4, 4),
            text_encoder=bert_encoder(tokenizer),
            tokenizer=tokenizer,
            transformer=wake(transformer, sharp=("attn2.norm_q.weight", "attn2.norm_k.weight")),
            scheduler=DDPMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            text_encoder_2=t5_encoder(tokenizer_2),
            tokenizer_2=tokenizer_2,
            **more,
        )

    return make


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    name = "encoder_hidden_states" if column < 77 else "encoder_hidden_states_t5"
    states = kwargs[name].clone()
    states[row, column % 77] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {name: states}


def _states(kwargs: dict[str, Any], row: int) -> torch.Tensor:
    names = ("encoder_hidden_states", "encoder_hidden_states_t5")
    return torch.cat([kwargs[name][row] for name in names])


def _case(name: str, cls: type, call: dict[str, Any], **fields: Any) -> Case:
    return ToyCase(
        name,
        _pipeline(cls),
        {
            "prompt": PROMPTS,
            "num_inference_steps": 2,
            "height": 48,
            "width": 80,
            "output_type": "np",
            "use_resolution_binning": False,
        }
        | call,
        GRID,
        {"cross": r"blocks\.\d+\.attn2"},
        text_keys=columns_from(0, 77 + 256),
        disturb=_disturb,
        encoders=(
            Encoder("bert", "text_encoder", "tokenizer", lambda place: place),
            Encoder("t5", "text_encoder_2", "tokenizer_2", lambda place: 77 + place),
        ),
        # Other columns are padding, all of them one learned vector.
        states=_states,
        probe=(0, 1, 77, 78),
        **fields,
    )


def hunyuan_dit() -> Case:
    return _case(
        "HunyuanDiTPipeline",
        HunyuanDiTPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


def hunyuan_dit_without_guidance() -> Case:
    return _case("HunyuanDiTPipeline without guidance", HunyuanDiTPipeline, {"guidance_scale": 1.0})


def hunyuan_dit_controlnet() -> Case:
    return _case(
        "HunyuanDiTControlNetPipeline",
        HunyuanDiTControlNetPipeline,
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "guidance_scale": 4.0,
            "control_image": picture(80, 48),
        },
        rows=rows_after(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


def hunyuan_dit_pag() -> Case:
    """Rows are [uncond, cond, perturbed]; the perturbed layers are those of self-attention."""
    return _case(
        "HunyuanDiTPAGPipeline",
        HunyuanDiTPAGPipeline,
        {"negative_prompt": NEGATIVES, "guidance_scale": 4.0, "pag_scale": 2.0},
        rows=rows_after(2),
        negative={"negative_prompt": OTHER_NEGATIVES},
    )


CASES: dict[str, Callable[[], Case]] = {
    "HunyuanDiTPipeline": hunyuan_dit,
    "HunyuanDiTPipeline without guidance": hunyuan_dit_without_guidance,
    "HunyuanDiTControlNetPipeline": hunyuan_dit_controlnet,
    "HunyuanDiTPAGPipeline": hunyuan_dit_pag,
}
