"""A pipeline on a device, made anew for each run that is compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from diffusers_rdaam import RDAAMProcessor, StableDiffusionRDAAMPipeline
from diffusers_rdaam.demo.loader import GUIDANCE_SCALE, STEPS, WEIGHTS
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels.dispatch import choose

PROMPT = "a red circle and a blue square"
# Compiled code of a processor is made for every size; these compile nothing, in two ways.
ON_A_PROCESSOR: Mapping[str, Mapping[str, Any]] = {
    "default": {"backend": "aot_eager"},
    "reduce-overhead": {"backend": "eager"},
}


@cache
def _embedded() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(WEIGHTS, safety_checker=None)


def load_embedded(cls: type) -> Any:
    """The embedded model as a pipeline of a class, with modules of its own, on the processor."""
    return cls(**copy.deepcopy(_embedded().components), requires_safety_checker=False)


@dataclass(frozen=True)
class Host:
    """Where pipelines run, and what they are called with.

    Args:
        device: of the denoiser.
        load: makes a pipeline of a class in float32, with modules of its own.
        arguments: of the pipeline's call, the seed apart.
        seed: of every run.
    """

    device: torch.device
    load: Callable[[type], Any] = load_embedded
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 3

    def stock(self, dtype: torch.dtype = torch.float32) -> Any:
        """Diffusers' own pipeline, still on the processor."""
        return self._made(StableDiffusionPipeline, dtype)

    def recorded(self, backend: str, dtype: torch.dtype = torch.float32) -> Any:
        """This package's pipeline with a backend, still on the processor."""
        pipe = self._made(StableDiffusionRDAAMPipeline, dtype)
        pipe.set_attn_processor(RDAAMProcessor(backend=backend))  # type: ignore[arg-type]
        return pipe

    def generate(self, pipe: Any, **more: Any) -> Any:
        """A run from the seed, which is drawn on the processor and so the same everywhere."""
        settings = {
            "prompt": PROMPT,
            "num_inference_steps": STEPS,
            "guidance_scale": GUIDANCE_SCALE,
            "output_type": "np",
            "generator": torch.Generator().manual_seed(self.seed),
        }
        return pipe(**(settings | dict(self.arguments) | more))

    @property
    def taken(self) -> str:
        """The backend that ``"auto"`` takes here."""
        return choose("auto", device=self.device).name

    @property
    def compile_options(self) -> Mapping[str, Mapping[str, Any]]:
        """What a UNet is compiled with, by the mode that is asked for."""
        if self.device.type == "cpu":
            return ON_A_PROCESSOR
        return {name: {"mode": name} for name in ON_A_PROCESSOR}

    def offload(self, pipe: Any) -> Any:
        """Move a pipeline's models to the device only while they are used."""
        pipe.enable_model_cpu_offload(device=self.device)
        return pipe

    def _made(self, cls: type, dtype: torch.dtype) -> Any:
        pipe = self.load(cls)
        pipe.set_progress_bar_config(disable=True)
        # Models are loaded in float32; a cast warns even where it changes nothing.
        return pipe if dtype == torch.float32 else pipe.to(dtype)


def embedded_host(device: str, steps: int = STEPS) -> Host:
    """The embedded pipeline with its card's settings, and as many steps."""
    return Host(torch.device(device), arguments={"num_inference_steps": steps})


def used(pipe: Any) -> set[tuple[str, str]]:
    """The kernel that the last call of each text site took, and why."""
    processors = (site.processor for site in UNetFamily().sites(pipe.unet))
    return {
        (processor.used.name, processor.used.reason)
        for processor in processors
        if processor.used is not None
    }


def told(pipe: Any) -> list[str]:
    """The ``repr`` of each text site's processor."""
    return [repr(site.processor) for site in UNetFamily().sites(pipe.unet)]
