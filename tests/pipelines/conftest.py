"""The tiny Stable Diffusion pipeline, a fresh copy for whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from copies import Original
from diffusers import StableDiffusionPipeline

from diffusers_rdaam import RDAAMProcessor, StableDiffusionRDAAMPipeline
from diffusers_rdaam.families.unet import UNetFamily

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The folder that ``from_pretrained`` takes."""
    return TINY


@pytest.fixture(scope="session")
def loaded() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(TINY, safety_checker=None)


@pytest.fixture(scope="session")
def components(loaded: StableDiffusionPipeline) -> Original:
    return Original(loaded.components)


@pytest.fixture
def make(components: Original) -> Callable[..., Any]:
    """A pipeline of a class, with modules of its own or with ``share``'s."""

    def make(
        cls: type = StableDiffusionRDAAMPipeline,
        *,
        dtype: torch.dtype = torch.float32,
        share: Any = None,
        **parts: Any,
    ) -> Any:
        own = components.copy() if share is None else share.components
        if not issubclass(cls, StableDiffusionPipeline):
            own.pop("image_encoder", None)
        pipe = cls(**(own | parts), requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(dtype)

    return make


@pytest.fixture
def ours(make: Callable[..., Any]) -> StableDiffusionRDAAMPipeline:
    return make()


@pytest.fixture
def stock(make: Callable[..., Any]) -> StableDiffusionPipeline:
    return make(StableDiffusionPipeline)


@pytest.fixture(scope="session")
def generate() -> Callable[..., Any]:
    """A small call, 64 pixels high and 96 wide, two steps, from a seed."""

    def generate(pipe: Any, *args: Any, seed: int = 7, **kwargs: Any) -> Any:
        if not args and "prompt_embeds" not in kwargs:
            kwargs.setdefault("prompt", "a red cat near a house")
        settings = {
            "height": 64,
            "width": 96,
            "num_inference_steps": 2,
            "generator": torch.Generator().manual_seed(seed),
        }
        return pipe(*args, **(settings | kwargs))

    return generate


def recording_left(pipe: Any) -> list[str]:
    """What a run has left armed: hooks of the denoiser, targets of its processors."""
    hooks = [str(hook) for hook in pipe.unet._forward_pre_hooks.values()]
    hooks += [str(hook) for hook in pipe.unet._forward_hooks.values()]
    targets = [
        name
        for name, processor in pipe.unet.attn_processors.items()
        if getattr(processor, "target", None) is not None
    ]
    return hooks + targets


@pytest.fixture(scope="session")
def left() -> Callable[[Any], list[str]]:
    return recording_left


@pytest.fixture(scope="session")
def sites_of() -> Callable[[Any], Any]:
    return lambda pipe: UNetFamily().sites(pipe.unet)


@pytest.fixture(scope="session")
def all_ours(sites_of: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether every text site has a child of its own, and no other module one."""

    def check(pipe: Any) -> bool:
        sites = {site.name for site in sites_of(pipe)}
        bound = {
            name.removesuffix(".processor")
            for name, processor in pipe.unet.attn_processors.items()
            if isinstance(processor, RDAAMProcessor) and f"{processor.site}.processor" == name
        }
        return bound == sites

    return check
