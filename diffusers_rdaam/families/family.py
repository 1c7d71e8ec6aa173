"""Family: what recording must know of a model architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from diffusers_rdaam.attention.site import Site


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

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Its modules in which the image attends to itself."""

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """What a denoiser call's arguments say; None for a call that is not to be recorded."""

    def grid(self, site: Site, latent_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the site's grid for a latent."""
