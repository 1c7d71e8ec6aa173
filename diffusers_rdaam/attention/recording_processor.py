"""RecordingProcessor: what the attention processors have in common that record."""

from __future__ import annotations

import threading
from typing import Any

import torch

from diffusers_rdaam.attention.map_target import target_of
from diffusers_rdaam.attention.observer import Observer
from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.kernels.dispatch import KernelInUse


class RecordingProcessor:
    """Base class of attention processors that record.

    All state is on the processor itself: in a closure it would cost a compiled denoiser a graph.

    Attributes:
        site: the site's name; None for a processor that is not bound to a site.
        kind: the site's kind.
        target: the observer of the site's calls; None while nothing is recorded.
        thread: the thread whose calls are recorded; None for every thread.
        original: the processor in whose place this one stands; None where it is that processor.
        used: the kernel of the last recorded call.
    """

    site: str | None = None
    kind: SiteKind = "cross"
    target: Observer | None = None
    thread: int | None = None
    original: Any = None
    used: KernelInUse | None = None

    def arm(self, target: Observer, thread: int | None) -> None:
        """Show the calls of a thread to an observer from now on.

        Args:
            target: the observer, of one denoiser call.
            thread: its number; None for every thread.
        """
        of_maps = target_of(target)
        choice = None if of_maps is None else of_maps.choice
        # The thread before the target: another thread that calls in between must not record.
        self.thread = thread
        self.used = None if choice is None else choice.used
        self.target = target

    def disarm(self) -> Observer | None:
        """Show calls to nobody from now on; returns who saw them."""
        target, self.target = self.target, None
        return target

    def observer(self, context: object) -> Observer | None:
        """The observer of a call; None for a call that is not recorded.

        At a cross-attention site every call with encoder states is recorded: without them the image
        attends to itself. At a self-attention site every call without them is, and at a joint site
        every call. Calls of another thread belong to another run on the same denoiser.

        Args:
            context: the encoder's states, if the call has some.
        """
        # Read once for a call: another thread may disarm the processor meanwhile.
        target = self.target
        if target is None:
            return None
        if self.kind != "joint" and (context is None) != (self.kind == "self"):
            return None
        if not torch.compiler.is_compiling() and self.thread not in (None, threading.get_ident()):
            return None
        return target

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a pipeline is not in the middle of the original's run.
        return self.__dict__ | {"target": None, "used": None}
