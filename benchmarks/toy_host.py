"""A pipeline of a toy's size, whose UNet has text attention at one level, and its stock call."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from benchmarks.sizes import TINY_PIPELINE

PROMPT = "a cat and a hat"
# Two by two cells at the level that has text attention.
SIZE = 32
STEPS = 2


@cache
def _parts() -> dict[str, Any]:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    pipe = StableDiffusionPipeline.from_pretrained(TINY_PIPELINE, safety_checker=None, unet=None)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=SIZE // 8,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=2,
    ).eval()
    with torch.no_grad():
        # Random weights attend to all tokens alike.
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
                weight.mul_(4)
    return pipe.components | {"unet": unet}


def new_host(cls: Any = StableDiffusionPipeline) -> Any:
    """A pipeline of a class, with modules and a scheduler of its own and no progress bar."""
    parts = _parts()
    shared = {"tokenizer": parts["tokenizer"]}
    own = {name: copy.deepcopy(part) for name, part in parts.items() if name not in shared}
    pipe = cls(**shared, **own, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def settings(**more: Any) -> dict[str, Any]:
    """Arguments of a small call beside its prompt, with a generator of its own."""
    call = {"height": SIZE, "width": SIZE, "num_inference_steps": STEPS, "guidance_scale": 5.0}
    return call | {"generator": torch.Generator().manual_seed(7)} | more


def stock_image(pipe: Any) -> torch.Tensor:
    """The image of a plain call of the stock class on a pipeline's parts."""
    parts = {name: getattr(pipe, name) for name in _parts()}
    stock = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    return stock(PROMPT, **settings(output_type="pt")).images
