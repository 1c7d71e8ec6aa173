"""Adapters made on the spot: IP-Adapter weights in the layout of the original, and a LoRA."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig

FEATURES = 12


def ip_adapter(unet: Any, seed: int = 0) -> dict[str, Any]:
    """Random weights for every text attention, and a projection of picture features to 4 tokens."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return 0.2 * torch.randn(shape, generator=generator)

    text = unet.config.cross_attention_dim
    weights, key = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            dim = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            for part in ("to_k_ip", "to_v_ip"):
                weights[f"{key}.{part}.weight"] = random(dim, text)
            key += 2
    projection = {
        "proj.weight": random(4 * text, FEATURES),
        "proj.bias": random(4 * text),
        "norm.weight": 1 + random(text),
        "norm.bias": random(text),
    }
    return {"image_proj": projection, "ip_adapter": weights}


def load_ip_adapter(pipe: Any) -> None:
    pipe.load_ip_adapter(
        ip_adapter(pipe.unet),
        subfolder="",
        weight_name="",
        image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )


def picture_features(seed: int = 1) -> torch.Tensor:
    """Of an unconditional and a conditional picture, ``(2, 1, features)``."""
    return torch.randn(2, 1, FEATURES, generator=torch.Generator().manual_seed(seed))


def add_lora(pipe: Any) -> None:
    torch.manual_seed(3)
    config = LoraConfig(
        r=2,
        lora_alpha=2,
        init_lora_weights=False,
        target_modules=["to_q", "to_k", "to_v", "to_out.0"],
    )
    pipe.unet.add_adapter(config)
