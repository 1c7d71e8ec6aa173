"""What switches the conditions on and off, where that takes more than one call of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
import torch
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback

CPU = torch.device("cpu")


def offload_each_module(pipe: Any) -> None:
    # What enable_sequential_cpu_offload does to each model. The method itself, given the processor
    # as its device, makes an index of it ("cpu:0") that accelerate then takes for another device.
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        accelerate.cpu_offload(module, CPU)


def offload_groups(level: str) -> Callable[[Any], None]:
    blocks = {"num_blocks_per_group": 1} if level == "block_level" else {}

    def apply(pipe: Any) -> None:
        pipe.enable_group_offload(onload_device=CPU, offload_type=level, **blocks)

    return apply


def store_in_eight_bits(pipe: Any) -> None:
    pipe.unet.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )


def tile(pipe: Any) -> None:
    pipe.vae.enable_tiling()
    # Or the toy's image would be one tile.
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = 8, 64


def checkpoint(pipe: Any) -> None:
    pipe.unet.enable_gradient_checkpointing()
    pipe.unet.train()


def stop_checkpointing(pipe: Any) -> None:
    pipe.unet.disable_gradient_checkpointing()
    pipe.unet.eval()


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def compile_denoiser(pipe: Any) -> None:
    pipe.unet.compile(fullgraph=True, backend="eager")


def wrap_denoiser(pipe: Any) -> None:
    pipe.unet = torch.compile(pipe.unet, fullgraph=True, backend="eager")


def cut_off_guidance(pipe: Any) -> dict[str, Any]:
    """After the first call; with diffusers' own callbacks where they fit."""
    if hasattr(pipe, "controlnet"):
        return {
            "callback_on_step_end": _cut_off_with_control,
            "callback_on_step_end_tensor_inputs": ["prompt_embeds", "image"],
        }
    cls = SDXLCFGCutoffCallback if hasattr(pipe, "text_encoder_2") else SDCFGCutoffCallback
    return {"callback_on_step_end": cls(cutoff_step_ratio=None, cutoff_step_index=0)}


def _cut_off_with_control(
    pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]
) -> dict[str, Any]:
    if step > 0:
        return tensors
    pipe._guidance_scale = 0.0
    return {name: tensor[-1:] for name, tensor in tensors.items()}


def stop_after_two(pipe: Any) -> dict[str, Any]:
    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step >= 1
        return tensors

    return {"callback_on_step_end": stop, "num_inference_steps": 8}


def change_latents(pipe: Any) -> dict[str, Any]:
    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": tensors["latents"].roll(1, dims=-1) * 0.9}

    return {"callback_on_step_end": change}


def mask_text(pipe: Any) -> None:
    """As a padding mask would come: the last 30 columns of the text are not attended to."""

    def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        text = kwargs["encoder_hidden_states"]
        mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        mask[:, -30:] = False
        return args, kwargs | {"encoder_attention_mask": mask}

    pipe.unet.register_forward_pre_hook(add, with_kwargs=True)


def unmask_text(pipe: Any) -> None:
    pipe.unet._forward_pre_hooks.clear()
    pipe.unet._forward_pre_hooks_with_kwargs.clear()
