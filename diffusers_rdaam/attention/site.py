"""Site: an attention module that is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

# Whose keys a site attends to: a text's; those of text and image together; the image's alone.
SiteKind = Literal["cross", "joint", "self"]


@dataclass(frozen=True)
class Site:
    """One attention module of a denoiser that is recorded.

    Args:
        name: its path in the denoiser, as diffusers spells it, e.g. ``mid_block…attn2``.
        module: the attention module.
        level: how often the latent's height and width are halved (rounded up) where it works.
        kind: ``"cross"`` (softmax over a text), ``"joint"`` (over a text and the image together) or
            ``"self"`` (over the image). It decides what a call of the site means.
        stream: which of a transformer's two kinds of blocks it is in: ``"double"`` (text and image
            have weights of their own) or ``"single"``; empty where there is one kind.
        attention_call: where the processor's attention call is observed, which call in its code;
            None where a processor of ours takes its place.
    """

    name: str
    module: nn.Module = field(repr=False)
    level: int
    kind: SiteKind = "cross"
    stream: str = ""
    attention_call: int | None = None

    @property
    def heads(self) -> int:
        """The module's number of heads."""
        return int(self.module.heads)  # type: ignore[arg-type]  # a module's attribute

    @property
    def processor(self) -> Any:
        """The module's present processor."""
        return self.module.processor
