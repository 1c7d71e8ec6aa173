"""Family: what recording must know of an architecture; and which family a pipeline is of."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import UnsupportedPipelineError


@dataclass(frozen=True)
class DenoiserCall:
    """One call of the denoiser, as the pre-hook sees it.

    Args:
        latent_size: height and width of the latent.
        tokens: columns of the text.
        start, stop: the conditional rows of the batch, in order of the images.
        device: where the latent is.
        negative: the rows of the negative prompt in the same order, where the call has them.
        timestep: of the scheduler, as the denoiser is given it; read after the run.
        frames: of a video; each image's are side by side, and ``start``, ``stop`` and ``negative``
            count them.
        rows: all rows of the call, counted in the same way; None where they are not checked.
        text: the conditional rows of the text embedding, ``(rows, columns, width)``.
        states: the whole embedding that they are a part of.
        latents: the conditional rows of the denoiser's input.
    """

    latent_size: tuple[int, int]
    tokens: int
    start: int
    stop: int
    device: torch.device
    negative: tuple[int, int] | None = None
    timestep: torch.Tensor | float | int | None = None
    frames: int = 1
    rows: int | None = None
    text: torch.Tensor | None = None
    states: torch.Tensor | None = None
    latents: torch.Tensor | None = None


@runtime_checkable
class Family(Protocol):
    """What differs between model architectures."""

    def denoiser(self, pipe: Any) -> nn.Module:
        """The module whose attention is recorded."""

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Its text cross-attention modules, in the order of ``named_modules``."""

    def self_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Its modules in which the image attends to itself."""

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """What a denoiser call's arguments say; None for a call that is not to be recorded."""

    def grid(self, site: Site, latent_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the site's grid for a latent."""


def family_of(pipe: Any, rows: Any = None) -> Family:
    """The family of a pipeline, by its stock class.

    Args:
        pipe: of a class of diffusers, or derived from one.
        rows: which rows of a call carry the prompt, where it is not the class that says so.

    Raises:
        UnsupportedPipelineError: none knows it, or it is known that it cannot be recorded.
    """
    from diffusers_rdaam.families.layouts import LAYOUTS
    from diffusers_rdaam.families.rows import TwoCallLayout
    from diffusers_rdaam.families.unet import UNetFamily

    if rows is not None and isinstance(getattr(pipe, "unet", None), nn.Module):
        return UNetFamily(rows)
    stock = stock_class(type(pipe))
    layout = None if stock is None else LAYOUTS.get(stock.__name__)
    if layout is None:
        raise unsupported(type(pipe).__name__, stock)
    # Perturbed-attention guidance adds rows, whichever class it is mixed into.
    perturbs = any(base.__name__ == "PAGMixin" for base in type(pipe).__mro__)
    if perturbs and not layout.perturbs:
        raise unsupported(type(pipe).__name__)
    return UNetFamily(layout.fresh() if isinstance(layout, TwoCallLayout) else layout)


def stock_class(cls: type) -> type | None:
    """The pipeline class of diffusers that a class is, or descends from most closely.

    Only this one decides: a class of diffusers may inherit from a supported one and call its
    denoiser otherwise. By name, because importing every pipeline would cost seconds.
    """
    for base in cls.__mro__:
        if {"_rdaam_watches", "_rdaam_records"} & base.__dict__.keys():
            # A class of ours under the name of the one that it stands for.
            continue
        name = base.__name__
        named = "Pipeline" in name and not name.endswith("Mixin")
        if named and base.__module__.startswith("diffusers."):
            return base
    return None


def unsupported(name: str, stock: type | None = None) -> UnsupportedPipelineError:
    """The error for a pipeline that is not recorded: why, if that is known; else what is.

    Args:
        name: of the pipeline.
        stock: its class of diffusers, where that is what makes it so.
    """
    from diffusers_rdaam.families.layouts import PIPELINES
    from diffusers_rdaam.families.refused import REFUSED

    reason = REFUSED.get("" if stock is None else stock.__name__)
    if reason is not None:
        return UnsupportedPipelineError(f"{name} cannot be recorded: {reason}.")
    close = difflib.get_close_matches(name[:200], PIPELINES, n=3, cutoff=0.5)
    nearest = f" Nearest: {', '.join(close)}." if close else ""
    return UnsupportedPipelineError(
        f"{name} cannot be recorded: the layout of its denoiser calls is not known, and it is "
        "never guessed. Supported: Stable Diffusion 1, 2 and XL and others whose UNet attends to "
        f"text, {len(PIPELINES)} classes of diffusers and those derived from them; the command "
        f"rdaam env lists all.{nearest}"
    )
