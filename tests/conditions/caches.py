"""Caches that skip attention: one of diffusers', and one that skips single sites."""

from __future__ import annotations

from typing import Any

from diffusers import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast
from diffusers.hooks import HookRegistry, ModelHook


def broadcast(pipe: Any) -> None:
    """Text attention in every second denoiser call only."""
    config = PyramidAttentionBroadcastConfig(
        cross_attention_block_skip_range=2,
        cross_attention_timestep_skip_range=(0, 1000),
        # The names of a UNet's blocks are not among those that the cache looks for by itself.
        cross_attention_block_identifiers=("attentions",),
        current_timestep_callback=lambda: 500,
    )
    apply_pyramid_attention_broadcast(pipe.unet, config)
    _forget_before_each_run(pipe)


class SkipHook(ModelHook):
    """Computes in the first denoiser call and in every ``period``-th, else repeats the output."""

    _is_stateful = True

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = period
        self.calls = 0
        self.output: Any = None

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        if self.calls % self.period == 0:
            self.output = self.fn_ref.original_forward(*args, **kwargs)
        self.calls += 1
        return self.output

    def reset_state(self, module: Any) -> Any:
        self.calls, self.output = 0, None
        return module


def skip_sites(pipe: Any) -> None:
    """Each text attention in another share of the calls: all, every second, third, fourth."""
    sites = [module for name, module in pipe.unet.named_modules() if name.endswith("attn2")]
    for index, site in enumerate(sites):
        registry = HookRegistry.check_if_exists_or_initialize(site)
        registry.register_hook(SkipHook(1 + index), "skip")
    _forget_before_each_run(pipe)


def _forget_before_each_run(pipe: Any) -> None:
    # Of itself diffusers does this for denoisers with its cache mix-in only; the text encoder runs
    # once before the denoiser.
    def forget(*_: Any) -> None:
        for module in pipe.unet.modules():
            if hasattr(module, "_diffusers_hook"):
                module._diffusers_hook.reset_stateful_hooks(recurse=False)

    pipe.text_encoder.register_forward_pre_hook(forget)
