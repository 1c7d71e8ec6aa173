"""Transformer, text encoder and scheduler of the embedded FLUX, untrained."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

WIDTH = 64  # of the text's states and of CLIP's pooled vector

# T5's relative position bias, by bucket (rows) and head (columns): buckets 0-15 hold keys at or
# before the query by distance, 16-31 keys after it. FLUX gives text tokens no position, so that
# this table alone tells "a red circle and a blue square" from the same words in another order;
# trained from its random start it stays flat, and colours are bound to no shape.
_AFTER, _SAME = -8.0, (0.0, 0.0, 0.0, 0.0)
_BEFORE = {1: (3.0, 2.0, 2.0, 0.0), 2: (0.0, 3.0, 2.0, 0.0), 3: (-1.0, 1.0, 2.0, 0.0)}
_FAR = (-3.0, -3.0, -2.0, 0.0)


def build_transformer() -> FluxTransformer2DModel:
    """Three double and three single blocks of width 128; no guidance embedding."""
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=3,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(4, 14, 14),
    )
    _start_as_identity(transformer)
    return transformer


@torch.no_grad()
def _start_as_identity(transformer: FluxTransformer2DModel) -> None:
    """Modulations start at zero with gates half open, and the output at zero (Peebles and Xie)."""
    for name, module in transformer.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if name.endswith(("norm.linear", "norm1.linear", "norm1_context.linear")):
            module.weight.zero_()
            module.bias.zero_()
            parts = module.bias.view(-1, 128)
            # Six parts in double blocks, (shift, scale, gate) twice; three in single blocks.
            for gate in range(2, len(parts), 3):
                parts[gate] = 0.5
        elif name == "norm_out.linear":
            module.weight.zero_()
            module.bias.zero_()
    transformer.proj_out.weight.zero_()
    transformer.proj_out.bias.zero_()


def build_t5(tokenizer: T5TokenizerFast) -> T5EncoderModel:
    """A T5 encoder of two layers, without dropout."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=16,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=64,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def local_causal_bias() -> torch.Tensor:
    """A bias ``(32 buckets, 4 heads)`` that is causal and prefers the nearest words."""
    table = torch.full((32, 4), _AFTER)
    for bucket in range(16):
        table[bucket] = torch.tensor(_SAME if bucket == 0 else _BEFORE.get(bucket, _FAR))
    return table


def relative_bias(text_encoder: T5EncoderModel) -> nn.Parameter:
    """The table of the text encoder's relative positions, ``(32 buckets, 4 heads)``."""
    return text_encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight


def build_flow_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Flow matching with a fixed shift of 3."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=False)
