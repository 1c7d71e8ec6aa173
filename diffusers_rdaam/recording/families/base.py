"""Family: what recording must know of an architecture; and which family a pipeline is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.recording.sites import Site


@dataclass(frozen=True)
class DenoiserCall:
    """One call of the denoiser, as the pre-hook sees it.

    Args:
        latent_size: height and width of the latent.
        tokens: columns of the text.
        start, stop: the conditional rows of the batch, in order of the images.
        device: where the latent is.
    """

    latent_size: tuple[int, int]
    tokens: int
    start: int
    stop: int
    device: torch.device


@runtime_checkable
class Family(Protocol):
    """What differs between model architectures."""

    def denoiser(self, pipe: Any) -> nn.Module:
        """The module whose attention is recorded."""

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Its text cross-attention modules, in the order of ``named_modules``."""

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """What a denoiser call's arguments say; None for a call that is not to be recorded."""

    def grid(self, site: Site, latent_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the site's grid for a latent."""


def family_of(pipe: Any) -> Family:
    """The family of a pipeline, by its class.

    Raises:
        UnsupportedPipelineError: none knows it.
    """
    from diffusers_rdaam.recording.families.unet import PIPELINES, UNetFamily

    # By the names of all classes it descends from: importing every pipeline would cost seconds.
    names = {base.__name__ for base in type(pipe).__mro__}
    if names & set(PIPELINES):
        return UNetFamily()
    raise UnsupportedPipelineError(
        f"{type(pipe).__name__} cannot be recorded: the layout of its denoiser calls is not known, "
        f"and it is never guessed. Supported: {', '.join(PIPELINES)} and classes derived from them."
    )
