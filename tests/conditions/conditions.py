"""Conditions that a pipeline of diffusers may run under: what switches them on, and what is known.

``CONDITIONS`` has one entry for each row of the table in ``docs/conditions.md``, or several
(variants) where one row speaks of all of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from adapters import add_lora, load_ip_adapter, picture_features
from caches import broadcast, skip_sites
from diffusers.schedulers import KarrasDiffusionSchedulers
from switches import (
    change_latents,
    checkpoint,
    compile_denoiser,
    cut_off_guidance,
    deterministic,
    mask_text,
    offload_each_module,
    offload_groups,
    stop_after_two,
    stop_checkpointing,
    store_in_eight_bits,
    tile,
    unmask_text,
    wrap_denoiser,
)

STABLE = "StableDiffusion"
# A scheduler of each kind: several calls a step, a start of its own, noise, a single step's order.
SCHEDULERS = ("HeunDiscrete", "PNDM", "EulerAncestralDiscrete", "DPMSolverSinglestep")
COLUMNS = {
    "StableDiffusion": "`StableDiffusionPipeline`",
    "StableDiffusionXL": "`StableDiffusionXLPipeline`",
    "StableDiffusionInpaint": "`StableDiffusionInpaintPipeline`",
    "StableDiffusionControlNet": "`StableDiffusionControlNetPipeline`",
}


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
        needs: a module that may be absent; the condition is then not tested.
        only: the pipelines that it is tested with; all if empty.
        pending: why it does not work yet.
        compiled: compared with the stock pipeline as it is, and set after our processors only.
    """

    name: str
    apply: Callable[[Any], Any] = nothing
    undo: Callable[[Any], Any] | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    call: Callable[[Any], dict[str, Any]] = lambda pipe: {}
    variant: str = ""
    needs: str | None = None
    only: tuple[str, ...] = ()
    pending: str | None = None
    compiled: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}, {self.variant}" if self.variant else self.name

    def tested(self, case: str) -> bool:
        """Whether it is tried with a pipeline, where it can be tried at all."""
        return not self.only or case in self.only

    @property
    def possible(self) -> bool:
        """Whether what it needs is there."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def fixed(**arguments: Any) -> Callable[[Any], dict[str, Any]]:
    """The same arguments for every pipeline."""
    return lambda pipe: arguments


def schedulers() -> list[Condition]:
    conditions = []
    for member in KarrasDiffusionSchedulers:
        name = member.name

        def apply(pipe: Any, name: str = name) -> None:
            cls = getattr(diffusers, name)
            # With fewer steps than its Runge-Kutta start takes, PNDM fails in diffusers itself.
            pipe.scheduler = cls.from_config(pipe.scheduler.config, skip_prk_steps=False)

        conditions.append(
            Condition(
                "each of `KarrasDiffusionSchedulers`",
                apply,
                call=fixed(num_inference_steps=8 if name == "PNDMScheduler" else 4),
                variant=name,
                needs="torchsde" if name == "DPMSolverSDEScheduler" else None,
                only=() if name.removesuffix("Scheduler") in SCHEDULERS else (STABLE,),
            )
        )
    return conditions


COMPILED = (STABLE, "StableDiffusionXL", "StableDiffusionControlNet")
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
    Condition(
        "`enable_attention_slicing()`",
        lambda pipe: pipe.enable_attention_slicing(1),
        lambda pipe: pipe.disable_attention_slicing(),
    ),
    Condition(
        "`enable_xformers_memory_efficient_attention()`",
        lambda pipe: pipe.enable_xformers_memory_efficient_attention(),
        lambda pipe: pipe.disable_xformers_memory_efficient_attention(),
        needs="xformers",
    ),
    Condition("`vae.enable_tiling()`", tile, lambda pipe: pipe.vae.disable_tiling()),
    Condition(
        "`vae.enable_slicing()`",
        lambda pipe: pipe.vae.enable_slicing(),
        lambda pipe: pipe.vae.disable_slicing(),
        call=fixed(num_images_per_prompt=2),
    ),
    Condition("gradient checkpointing", checkpoint, stop_checkpointing),
]
SPEED = [
    Condition(
        "`fuse_qkv_projections()`",
        lambda pipe: pipe.fuse_qkv_projections(),
        lambda pipe: pipe.unfuse_qkv_projections(),
    ),
    Condition(
        "`channels_last`",
        lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
        lambda pipe: pipe.unet.to(memory_format=torch.contiguous_format),
    ),
    Condition(
        '`unet.set_attention_backend("native")`',
        lambda pipe: pipe.unet.set_attention_backend("native"),
        lambda pipe: pipe.unet.reset_attention_backend(),
    ),
    Condition("`torch.autocast`", around=lambda: torch.autocast("cpu", torch.bfloat16)),
    Condition("`torch.inference_mode`", around=torch.inference_mode),
    Condition("`torch.use_deterministic_algorithms`", around=deterministic),
    Condition("`bfloat16`", lambda pipe: pipe.to(torch.bfloat16)),
    Condition("`float16`", lambda pipe: pipe.to(torch.float16)),
    Condition(
        "`pipe.unet.compile(fullgraph=True)`", compile_denoiser, compiled=True, only=COMPILED
    ),
    Condition(
        "`pipe.unet = torch.compile(pipe.unet)`", wrap_denoiser, compiled=True, only=(STABLE,)
    ),
    Condition("Pyramid Attention Broadcast", broadcast, call=fixed(num_inference_steps=8)),
    Condition("a hook that skips layers", skip_sites, call=fixed(num_inference_steps=8)),
]
WEIGHTS = [
    Condition(
        "IP-Adapter",
        load_ip_adapter,
        lambda pipe: pipe.unload_ip_adapter(),
        call=lambda pipe: {"ip_adapter_image_embeds": [picture_features()]},
    ),
    Condition("LoRA", add_lora, lambda pipe: pipe.unet.delete_adapters("default")),
    Condition("LoRA with a scale", add_lora, call=fixed(cross_attention_kwargs={"scale": 0.5})),
    Condition(
        "FreeU",
        lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
        lambda pipe: pipe.disable_freeu(),
    ),
]
CALLS = [
    Condition("guidance switched off during the run by a callback", call=cut_off_guidance),
    Condition("`pipe._interrupt = True` in a callback", call=stop_after_two),
    Condition("latents changed by a callback", call=change_latents),
    Condition("text columns that are masked", mask_text, unmask_text),
    Condition("`guidance_scale=1`", call=fixed(guidance_scale=1.0)),
    Condition("`guidance_rescale`", call=fixed(guidance_rescale=0.7)),
    Condition("`num_images_per_prompt=3`", call=fixed(num_images_per_prompt=3)),
    Condition('`output_type="latent"`', call=fixed(output_type="latent")),
    Condition("another size", call=fixed(height=48, width=80)),
]
CONDITIONS = [Condition("nothing special"), *MEMORY, *SPEED, *WEIGHTS, *CALLS, *schedulers()]
