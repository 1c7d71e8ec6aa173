"""Bria Fibo 2: cross-attention in some blocks, from a summary of the text, image and pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from builders_flux2 import flux2_vae
from dense_oracle import Case, Encoder, ObservedCall
from diffusers import BriaFibo2Pipeline, BriaFibo2Transformer2DModel
from diffusers.pipelines.bria_fibo2.pipeline_bria_fibo2 import PROMPT_TEMPLATE
from single_parts import (
    NEGATIVES,
    OTHER_NEGATIVES,
    PROMPTS,
    ToyCase,
    alternate_calls,
    flow_scheduler,
    picture,
    wake,
    without_attention,
)
from toy_qwen import qwen3_vl_generator, qwen_processor
from toy_tokenizers import qwen2_tokenizer

GRID = (8, 10)
# Fewer words than these have summaries of two columns, more of them three.
SHORT, LONG = 8, 14
LAYERS = ((0, 1), (1, 2), (0, 2))


def _pipeline(side: str) -> Any:
    tokenizer = qwen2_tokenizer(PROMPT_TEMPLATE)
    processor = qwen_processor(tokenizer)
    tokenizer.padding_side = side
    torch.manual_seed(0)
    transformer = BriaFibo2Transformer2DModel(
        in_channels=4,
        patch_size=2,
        dim=24,
        n_layers=3,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=32,
        injection_layer_ids=(0, 2),
        perceiver_num_layers=1,
        min_num_gist_tokens=2,
        max_num_gist_tokens=4,
        gist_step=1,
        gist_min_text_len=SHORT,
        gist_max_text_len=LONG,
        axes_dims=(4, 4, 4),
        axes_lens=(64, 32, 32),
    )
    sharp = ("cross_attention.norm_q.weight", "cross_attention.norm_k.weight")
    pipe = BriaFibo2Pipeline(
        transformer=wake(transformer, sharp=sharp),
        scheduler=flow_scheduler(),
        vae=flux2_vae(),
        text_encoder=qwen3_vl_generator(tokenizer),
        processor=processor,
    )
    pipe.text_encoder_out_layers = LAYERS
    pipe.default_sample_size = 16
    pipe.text_encoder_image_size = 64
    return pipe


def _states(kwargs: dict[str, Any], row: int) -> torch.Tensor:
    """Of the first block with cross-attention, of the two layers side by side the last.

    Padding in front sees no token, and what it holds is not the same each time.
    """
    states, mask = kwargs["encoder_hidden_states"][row, 1, :, 16:], kwargs["encoder_attention_mask"]
    return states if mask is None else states[mask[row]]


def _normalized(pipe: Any, states: torch.Tensor) -> torch.Tensor:
    return states * torch.rsqrt(states.pow(2).mean(dim=-1, keepdim=True) + 1e-6)


def _keys(call: ObservedCall, row: int) -> list[int]:
    """What is not padding, on whichever side that is."""
    mask = call.kwargs.get("encoder_attention_mask")
    if mask is None:
        return list(range(call.key.shape[2]))
    return mask[row].nonzero().flatten().tolist()


def _queries(call: ObservedCall, row: int) -> int:
    """The summary is in front unless the rows have summaries of other lengths."""
    mask = call.kwargs.get("encoder_attention_mask")
    text = call.kwargs["encoder_hidden_states"]
    counts = [text.shape[2]] * len(text) if mask is None else mask.sum(dim=1).tolist()
    parts = [min(1.0, max(0.0, (count - SHORT) / (LONG - SHORT))) for count in counts]
    summaries = {-int(-(2 + 2 * part) // 1) for part in parts}
    return summaries.pop() if len(summaries) == 1 else 0


def _disturb(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    states, mask = kwargs["encoder_hidden_states"].clone(), kwargs.get("encoder_attention_mask")
    place = column if mask is None else int(mask[row].nonzero()[column])
    states[row, :, place] += torch.linspace(-3, 3, states.shape[-1])
    return kwargs | {"encoder_hidden_states": states}


def _unmix(denoiser: Any) -> None:
    denoiser.noise_refiner = torch.nn.ModuleList()
    without_attention("layers", "attention")(denoiser)


def _case(name: str, call: dict[str, Any], side: str = "right", **fields: Any) -> Case:
    encoder = Encoder("qwen", "text_encoder", "processor", lambda place: place)
    return ToyCase(
        name,
        partial(_pipeline, side),
        {
            "prompt": PROMPTS,
            "negative_prompt": NEGATIVES,
            "guidance_scale": 4.0,
            "num_inference_steps": 2,
            "height": 32,
            "width": 40,
            "output_type": "np",
        }
        | call,
        GRID,
        {"cross": r"layers\.\d+\.cross_attention"},
        image_queries=_queries,
        text_keys=_keys,
        disturb=_disturb,
        states=_states,
        project=_normalized,
        unmix=_unmix,
        encoders=() if side == "left" else (encoder,),
        **fields,
    )


def fibo2(side: str = "right") -> Case:
    """Calls of their own, conditional first."""
    return _case(
        "BriaFibo2Pipeline",
        {},
        side,
        rows=alternate_calls(2),
        # Behind padding in front the stock encoder's states are not the same in a second run.
        negative={"negative_prompt": OTHER_NEGATIVES} if side == "right" else None,
    )


def fibo2_without_guidance() -> Case:
    """Nothing is padded, so there is no mask."""
    return _case(
        "BriaFibo2Pipeline without guidance",
        {"prompt": PROMPTS[:1], "negative_prompt": None, "guidance_scale": 1.0},
    )


def fibo2_edit() -> Case:
    """The positions of pictures are behind those of the image."""
    return _case(
        "BriaFibo2Pipeline pictures",
        {
            "prompt": PROMPTS[0],
            "negative_prompt": NEGATIVES[0],
            "image": [picture(40, 32), picture(32, 48)],
        },
        rows=alternate_calls(1),
        negative={"negative_prompt": OTHER_NEGATIVES[0]},
    )


CASES: dict[str, Callable[[], Case]] = {
    "BriaFibo2Pipeline": fibo2,
    "BriaFibo2Pipeline padding in front": partial(fibo2, "left"),
    "BriaFibo2Pipeline without guidance": fibo2_without_guidance,
    "BriaFibo2Pipeline pictures": fibo2_edit,
}
