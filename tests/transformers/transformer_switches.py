"""What switches the conditions of a transformer on, where that takes more than one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
import builders_flux
import gguf
import torch
from diffusers import PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from diffusers.hooks import (
    FirstBlockCacheConfig,
    HookRegistry,
    ModelHook,
    apply_first_block_cache,
    apply_pyramid_attention_broadcast,
    apply_taylorseer_cache,
)
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, _replace_with_gguf_linear
from optimum.quanto import freeze, qint8, quantize
from peft import LoraConfig

CPU = torch.device("cpu")
Q8_0, BF16 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16


def offload_each_module(pipe: Any) -> None:
    """What ``enable_sequential_cpu_offload`` does to each model, without its index of a device."""
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            accelerate.cpu_offload(module, CPU)


def offload_groups(level: str) -> Callable[[Any], None]:
    blocks = {"num_blocks_per_group": 1} if level == "block_level" else {}

    def apply(pipe: Any) -> None:
        pipe.transformer.enable_group_offload(
            onload_device=CPU, offload_device=CPU, offload_type=level, **blocks
        )

    return apply


def store_in_eight_bits(pipe: Any) -> None:
    pipe.transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )


def quantise_to_int8(pipe: Any) -> None:
    """Weights of the linear layers in 8 bits and a scale for each row; products in float32."""
    quantize(pipe.transformer, weights=qint8)
    freeze(pipe.transformer)


def read_as_gguf(pipe: Any) -> None:
    """Linear layers as diffusers has them of a GGUF file: blocks of 32 weights share a scale.

    A toy's layers of 16 have no such block; theirs are stored as the file's bfloat16.
    """
    state = dict(pipe.transformer.state_dict())
    for name, module in pipe.transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            kind = Q8_0 if module.in_features % 32 == 0 else BF16
            weight = gguf.quants.quantize(module.weight.detach().numpy(), kind)
            state[f"{name}.weight"] = GGUFParameter(torch.from_numpy(weight), quant_type=kind)
    _replace_with_gguf_linear(pipe.transformer, torch.float32, state)
    for name, module in pipe.transformer.named_modules():
        if isinstance(module, GGUFLinear):
            module.weight = state[f"{name}.weight"]
            module.bias = (
                torch.nn.Parameter(state[f"{name}.bias"]) if module.bias is not None else None
            )


def checkpoint(pipe: Any) -> None:
    pipe.transformer.enable_gradient_checkpointing()
    pipe.transformer.train()


def stop_checkpointing(pipe: Any) -> None:
    pipe.transformer.disable_gradient_checkpointing()
    pipe.transformer.eval()


def tile(pipe: Any) -> None:
    pipe.vae.enable_tiling()
    # Or the toy's image would be one tile.
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = 4, 8


def add_lora(pipe: Any) -> None:
    torch.manual_seed(3)
    config = LoraConfig(
        r=2,
        lora_alpha=2,
        init_lora_weights=False,
        target_modules=["to_q", "to_k", "to_v", "to_out.0"],
    )
    pipe.transformer.add_adapter(config)


def fuse_lora(pipe: Any) -> None:
    add_lora(pipe)
    pipe.transformer.fuse_lora()


def load_ip_adapter(pipe: Any) -> None:
    """Keys and values of an image prompt in the blocks of two streams."""
    builders_flux.load_ip_adapter(pipe.transformer)


def lora_in_mid_run(pipe: Any) -> dict[str, Any]:
    """An adapter that is there from the second step on."""

    def add(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            add_lora(pipe)
        return tensors

    return {"callback_on_step_end": add, "num_inference_steps": 3}


def broadcast(pipe: Any) -> None:
    """Attention in every third denoiser call only: of both branches, where they are apart."""
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=3,
        cross_attention_block_skip_range=3,
        spatial_attention_timestep_skip_range=(0, 1000),
        cross_attention_timestep_skip_range=(0, 1000),
        spatial_attention_block_identifiers=("blocks", "layers"),
        current_timestep_callback=lambda: 500,
    )
    _enable(pipe, config, apply_pyramid_attention_broadcast)


def first_block_cache(pipe: Any) -> None:
    """The blocks behind the first are skipped where that changes little."""
    _enable(pipe, FirstBlockCacheConfig(threshold=0.5), apply_first_block_cache)


def taylor_seer(pipe: Any) -> None:
    """Attention is extrapolated in two calls of three."""
    config = TaylorSeerCacheConfig(
        cache_interval=3,
        disable_cache_before_step=2,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[r".*\.attn2?", r"layers\.\d+\.attention"],
    )
    _enable(pipe, config, apply_taylorseer_cache)


def _enable(pipe: Any, config: Any, apply: Callable[..., None]) -> None:
    denoiser = pipe.transformer
    if hasattr(denoiser, "enable_cache"):
        denoiser.enable_cache(config)
        return
    apply(denoiser, config)
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
    """The attention of each block in another share of the calls: all, every third, every fifth."""
    blocks = [
        module
        for name, module in pipe.transformer.named_modules()
        if name.rpartition(".")[2] in ("attn", "attn2", "attention") and "refiner" not in name
    ]
    for index, site in enumerate(blocks):
        registry = HookRegistry.check_if_exists_or_initialize(site)
        registry.register_hook(SkipHook(1 + 2 * index), "skip")
    _forget_before_each_run(pipe)


def _forget_before_each_run(pipe: Any) -> None:
    """Diffusers does this by itself for denoisers with its cache mix-in only."""

    def forget(*_: Any) -> None:
        for module in pipe.transformer.modules():
            if hasattr(module, "_diffusers_hook"):
                module._diffusers_hook.reset_stateful_hooks(recurse=False)

    # The text encoder runs before the denoiser.
    pipe.text_encoder.register_forward_pre_hook(forget)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def set_backend(name: str) -> Callable[[Any], None]:
    return lambda pipe: pipe.transformer.set_attention_backend(name)


def reset_backend(pipe: Any) -> None:
    pipe.transformer.reset_attention_backend()
    # Diffusers sets the active backend of the whole process, and does not set it back.
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)


@contextmanager
def own_backend(backend: AttentionBackendName | None = None) -> Iterator[None]:
    """The active backend of the process is as before at the end; meanwhile the one given."""
    before = _AttentionBackendRegistry.get_active_backend()[0]
    if backend is not None:
        _AttentionBackendRegistry.set_active_backend(backend)
    try:
        yield
    finally:
        _AttentionBackendRegistry.set_active_backend(before)


def stop_after_two(pipe: Any) -> dict[str, Any]:
    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step >= 1
        return tensors

    return {"callback_on_step_end": stop, "num_inference_steps": 5}


def change_latents(pipe: Any) -> dict[str, Any]:
    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"].roll(1, dims=-1) * 0.9}

    return {"callback_on_step_end": change}
