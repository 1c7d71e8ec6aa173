"""Target: where a site adds its maps during one denoiser call; and the processors that have one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from diffusers_rdaam.errors import RecordingError


@dataclass
class Branch:
    """Rows of a denoiser call that are recorded together.

    Args:
        high, low: planes ``(images, tokens, pixels)`` of the site's grid, or with heads apart
            ``(images, heads, tokens, pixels)``.
        count: one element, the site's number of additions.
        start, stop: the rows.
    """

    high: Tensor
    low: Tensor | None
    count: Tensor
    start: int = 0
    stop: int = 0


@dataclass
class Target:
    """What a bound processor adds to during one denoiser call.

    Args:
        site: its name.
        branches: the conditional rows, and where they are kept those of the negative prompt.
        accumulate: the kernel.
        strict: whether to raise where the maps do not fit, which is right before steps were spent.
        misfit: why the maps did not fit, where they did not and ``strict`` was off.
        own: whether it is self-attention that is added, where no text is given.
    """

    site: str
    branches: tuple[Branch, ...]
    accumulate: Callable[..., None]
    strict: bool = True
    misfit: str | None = None
    own: bool = False

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Add the probabilities of the recorded rows.

        Raises:
            RecordingError: the site attends from another number of positions than its grid has, or
                to another number of columns than the text.
        """
        columns, positions = self.branches[0].high.shape[-2:]
        if query.shape[2] != positions:
            self._misfits(
                f"from {query.shape[2]} image positions, where {positions} were expected of its "
                "level and the latent's size: this denoiser's samplers are not known, or something "
                "cuts its input into tiles"
            )
            return
        if key.shape[2] != columns and self.own:
            self._misfits(
                f"to {key.shape[2]} image positions, where {columns} were expected: something adds "
                "positions, or merges some"
            )
            return
        if key.shape[2] != columns:
            self._misfits(
                f"to {key.shape[2]} columns, where {columns} were expected of the text: something "
                "adds columns to it, or leaves some out"
            )
            return
        if mask is not None:
            if mask.dtype == torch.bool:
                # The logits are float32; true means "may be attended".
                mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(~mask, -torch.inf)
            mask = mask.float().expand(query.shape[0], -1, -1, -1)
        with torch.no_grad():
            for branch in self.branches:
                rows = slice(branch.start, branch.stop)
                part = None if mask is None else mask[rows]
                self.accumulate(
                    query[rows], key[rows], branch.high, branch.low, mask=part, scale=scale
                )
                branch.count.add_(1)

    def _misfits(self, what: str) -> None:
        text = (
            f"{self.site} attends {what}. To generate without recording, use "
            "pipe.set_attn_processor(AttnProcessor2_0())."
        )
        if self.strict:
            raise RecordingError(text)
        self.misfit = text

    def wants(self, context: object) -> bool:
        """Whether a call with this context, or with none, is one to add."""
        return (context is None) == self.own


@runtime_checkable
class Observer(Protocol):
    """What sees the queries and keys of a site during one denoiser call."""

    strict: bool

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """See those of one call of the site."""

    def wants(self, context: object) -> bool:
        """Whether a call with this context, or with none, is one to add."""


class Several:
    """Observers of one site; they see the same calls."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers

    @property
    def strict(self) -> bool:
        """Of the first; setting it sets all."""
        return self.observers[0].strict

    @strict.setter
    def strict(self, value: bool) -> None:
        for observer in self.observers:
            observer.strict = value

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Every observer, in order."""
        for observer in self.observers:
            observer.add(query, key, mask, scale)

    def wants(self, context: object) -> bool:
        """As the first, and with it all."""
        return self.observers[0].wants(context)


class Bound:
    """What a processor is that records: the name of its site, and a target while it does.

    ``thread`` is the one whose calls are recorded, and ``original`` the processor that it was put
    in the place of, unless it is that itself.
    """

    site: str | None = None
    target: Observer | None = None
    thread: int | None = None
    original: Any = None

    def observer(self, context: object) -> Observer | None:
        """The target, where a call with this context, or with none, is one to add.

        Read once for a call: another thread may disarm the processor meanwhile. Calls of another
        thread are somebody else's run on the same denoiser.
        """
        target = self.target
        if target is None or not target.wants(context):
            return None
        if not torch.compiler.is_compiling() and self.thread not in (None, threading.get_ident()):
            return None
        return target

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a pipeline is not in the middle of the original's run.
        return self.__dict__ | {"target": None}
