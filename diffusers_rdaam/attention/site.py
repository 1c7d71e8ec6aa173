"""Site: an attention module that is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Site:
    """One text cross-attention module of a denoiser.

    Args:
        name: its path in the denoiser, as diffusers spells it, e.g. ``mid_block…attn2``.
        module: the attention module.
        level: how often the latent's height and width are halved (rounded up) where it works.
    """

    name: str
    module: nn.Module = field(repr=False)
    level: int

    @property
    def heads(self) -> int:
        """Its number of heads."""
        return int(self.module.heads)  # type: ignore[arg-type]  # a module's attribute

    @property
    def processor(self) -> Any:
        """The processor that is installed."""
        return self.module.processor
