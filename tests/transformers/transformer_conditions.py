"""Conditions that a transformer of diffusers may run under, and the pipelines they are tried with.

``CONDITIONS`` has one entry for each row of the table in ``docs/conditions_transformers.md``, or
several (variants) where one row speaks of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import builders_flux
import builders_qwen
import builders_sd3
import cases_pixart
import cases_z_image
import torch
from dense_oracle import Case, DenoiserCall
from diffusers import FlowMatchHeunDiscreteScheduler
from toy_models import second_half
from transformer_switches import (
    add_lora,
    broadcast,
    change_latents,
    checkpoint,
    deterministic,
    first_block_cache,
    fuse_lora,
    load_ip_adapter,
    lora_in_mid_run,
    offload_each_module,
    offload_groups,
    quantise_to_int8,
    read_as_gguf,
    reset_backend,
    set_backend,
    skip_sites,
    stop_after_two,
    stop_checkpointing,
    store_in_eight_bits,
    taylor_seer,
    tile,
)


def first_half(call: DenoiserCall) -> list[int]:
    """Rows ``[conditional, unconditional]``, as lists."""
    return list(range(len(call.args[0]) // 2))


# The columns of the table: the pipeline with guidance, two prompts of different length.
FAMILIES: dict[str, Callable[[], Case]] = {
    "FluxPipeline": builders_flux.CASES["FluxPipeline, true guidance"],
    "StableDiffusion3Pipeline": builders_sd3.CASES["StableDiffusion3Pipeline"],
    "QwenImagePipeline": builders_qwen.CASES["QwenImagePipeline"],
    "ZImagePipeline": lambda: replace(cases_z_image.z_image(), rows=first_half),
    "PixArtSigmaPipeline": lambda: replace(cases_pixart.pixart_sigma(), rows=second_half),
}
# Those whose processors hand their attention to diffusers' choice of backends.
DISPATCHED = ("FluxPipeline", "QwenImagePipeline", "ZImagePipeline")
# Those that pass a callback on.
CALLED_BACK = tuple(name for name in FAMILIES if not name.startswith("PixArt"))


def nothing(pipe: Any) -> None:
    """No condition."""


@dataclass(frozen=True)
class Condition:
    """One way to run a pipeline.

    Args:
        name: the row of the table.
        apply: switches it on; given the stock pipeline and ours.
        undo: switches it off again, so that the pipeline is as it was.
        around: what the calls are made within.
        call: arguments beside the usual ones, made from the pipeline.
        variant: one of several that make up a row.
        only: the families that it is tried with; all if empty.
        why_not: what the table says of the others.
        tolerance: of the maps, as a part of the largest probability.
        unseen: why the kernel's queries and keys cannot be seen from outside; the maps are then
            compared with those of a run without the condition.
        often: the families that are tried in every run of the tests.
    """

    name: str
    apply: Callable[[Any], Any] = nothing
    undo: Callable[[Any], Any] | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    call: Callable[[Any], dict[str, Any]] = lambda pipe: {}
    variant: str = ""
    only: tuple[str, ...] = ()
    why_not: str = ""
    tolerance: float = 1e-5
    unseen: str = ""
    often: tuple[str, ...] = ("FluxPipeline",)

    @property
    def id(self) -> str:
        return f"{self.name}, {self.variant}" if self.variant else self.name

    def tried(self, family: str) -> bool:
        """Whether it is tried with a family."""
        return not self.only or family in self.only


def fixed(**arguments: Any) -> Callable[[Any], dict[str, Any]]:
    """The same arguments for every pipeline."""
    return lambda pipe: arguments


def _several_calls_a_step(pipe: Any) -> None:
    pipe.scheduler = FlowMatchHeunDiscreteScheduler.from_config(pipe.scheduler.config)


NO_CALLBACK = "diffusers: no callbacks"
NOT_DISPATCHED = "does not use backends"
MEMORY = [
    Condition(
        "`enable_model_cpu_offload()`",
        lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
        lambda pipe: pipe.remove_all_hooks(),
    ),
    Condition(
        "`enable_sequential_cpu_offload()`",
        offload_each_module,
        lambda pipe: pipe.remove_all_hooks(),
    ),
    Condition("group offload, each layer", offload_groups("leaf_level")),
    Condition("group offload, block by block", offload_groups("block_level")),
    Condition("layerwise casting, weights stored in 8 bits", store_in_eight_bits),
    Condition("weights quantised to int8 (quanto)", quantise_to_int8, often=("FluxPipeline",)),
    Condition("weights of a GGUF file (Q8_0)", read_as_gguf, often=("FluxPipeline",)),
    Condition("`vae.enable_tiling()`", tile, lambda pipe: pipe.vae.disable_tiling(), often=()),
    Condition("gradient checkpointing", checkpoint, stop_checkpointing, often=()),
]
FLEX_WARNING = "flex attention is not computed by the kernel whose calls are observed"
BACKENDS = [
    Condition(
        "`set_attention_backend`",
        set_backend(name),
        reset_backend,
        variant=f"`{name}`",
        only=DISPATCHED,
        why_not=NOT_DISPATCHED,
        unseen=FLEX_WARNING if name == "flex" else "",
        tolerance=1e-4 if name == "flex" else 1e-5,
        often=("FluxPipeline",) if name in ("_native_math", "flex") else (),
    )
    for name in ("native", "_native_math", "_native_flash", "flex")
]
SPEED = [
    Condition(
        "`fuse_qkv_projections()`",
        lambda pipe: pipe.transformer.fuse_qkv_projections(),
        lambda pipe: pipe.transformer.unfuse_qkv_projections(),
        only=("FluxPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline"),
        why_not="diffusers: not for this model",
        often=("FluxPipeline", "StableDiffusion3Pipeline"),
    ),
    *BACKENDS,
    Condition("`torch.autocast`", around=lambda: torch.autocast("cpu", torch.bfloat16)),
    Condition("`torch.inference_mode`", around=torch.inference_mode, often=()),
    Condition("`torch.use_deterministic_algorithms`", around=deterministic, often=()),
    # The kernel's log-sum-exp is of products that it rounded.
    Condition("`bfloat16`", lambda pipe: pipe.to(torch.bfloat16), tolerance=1e-4),
    Condition("`float16`", lambda pipe: pipe.to(torch.float16), tolerance=1e-4, often=()),
]
CACHES = [
    Condition(
        "First Block Cache",
        first_block_cache,
        call=fixed(num_inference_steps=6),
        often=("FluxPipeline", "QwenImagePipeline"),
    ),
    Condition("Pyramid Attention Broadcast", broadcast, call=fixed(num_inference_steps=6)),
    Condition("TaylorSeer", taylor_seer, call=fixed(num_inference_steps=8)),
    Condition("a hook that skips layers", skip_sites, call=fixed(num_inference_steps=6), often=()),
]
WEIGHTS = [
    Condition(
        "IP-Adapter",
        load_ip_adapter,
        lambda pipe: pipe.unload_ip_adapter(),
        call=fixed(**builders_flux.IMAGE_PROMPT),
        only=("FluxPipeline",),
        why_not="not tried",
    ),
    Condition("LoRA", add_lora, lambda pipe: pipe.transformer.delete_adapters("default")),
    Condition(
        "LoRA, fused",
        fuse_lora,
        only=("FluxPipeline", "StableDiffusion3Pipeline"),
        why_not="not tried",
        often=(),
    ),
    Condition(
        "LoRA with a scale",
        add_lora,
        call=fixed(joint_attention_kwargs={"scale": 0.5}),
        only=("FluxPipeline", "StableDiffusion3Pipeline"),
        why_not="not tried",
        often=(),
    ),
    Condition(
        "LoRA from the second step on",
        call=lora_in_mid_run,
        only=CALLED_BACK,
        why_not=NO_CALLBACK,
    ),
]
CALLS = [
    Condition(
        "`pipe._interrupt = True` in a callback",
        call=stop_after_two,
        only=CALLED_BACK,
        why_not=NO_CALLBACK,
    ),
    Condition(
        "latents changed by a callback",
        call=change_latents,
        only=CALLED_BACK,
        why_not=NO_CALLBACK,
        often=(),
    ),
    Condition(
        "a scheduler with two calls a step",
        _several_calls_a_step,
        only=("FluxPipeline", "StableDiffusion3Pipeline"),
        why_not="not tried",
        often=("StableDiffusion3Pipeline",),
    ),
    Condition(
        "`num_images_per_prompt=2`",
        call=fixed(num_images_per_prompt=2),
        only=tuple(name for name in FAMILIES if name != "ZImagePipeline"),
        why_not="not tried",
        often=("StableDiffusion3Pipeline",),
    ),
    Condition(
        "one negative prompt for several prompts",
        call=fixed(negative_prompt="an ugly picture"),
        only=tuple(name for name in FAMILIES if name != "ZImagePipeline"),
        why_not="diffusers: as many as prompts",
        often=("FluxPipeline",),
    ),
    Condition('`output_type="latent"`', call=fixed(output_type="latent"), often=()),
]
CONDITIONS = [
    Condition("nothing special", often=tuple(FAMILIES)),
    *MEMORY,
    *SPEED,
    *CACHES,
    *WEIGHTS,
    *CALLS,
]
