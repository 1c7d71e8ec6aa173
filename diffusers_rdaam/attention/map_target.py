"""Target: where a site adds its maps during one denoiser call; and the processors that have one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from diffusers_rdaam.attention.site import SiteKind
from diffusers_rdaam.kernels.dispatch import KernelChoice, KernelInUse


@dataclass
class BranchTarget:
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
        rows: how many rows a call of the site has; any number if None.
        misfit: why the maps of a call did not fit; nothing is raised, because the image is made.
        failure: an exception of a recording operation; the image is made all the same.
        kind: of the site: what the columns are, those of a text or positions of the image.
        choice: where the kernel comes from; it may have one that computes the attention too.
    """

    site: str
    branches: tuple[BranchTarget, ...]
    accumulate: Callable[..., None]
    rows: int | None = None
    misfit: str | None = None
    failure: Exception | None = None
    kind: SiteKind = "cross"
    choice: KernelChoice | None = None

    def __post_init__(self) -> None:
        # Asked in every call: whether the maps of a text are added beside an attention of its own.
        self.plain = self.kind != "self" and (self.choice is None or self.choice.attend is None)

    @classmethod
    def of(
        cls,
        site: str,
        branches: tuple[BranchTarget, ...],
        choice: KernelChoice,
        *,
        rows: int | None = None,
        kind: SiteKind = "cross",
    ) -> Target:
        """With the kernel of a choice."""
        return cls(site, branches, choice.accumulate, rows=rows, kind=kind, choice=choice)

    def add(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scale: float,
        lse: Tensor | None = None,
    ) -> None:
        """Add the probabilities of the recorded rows.

        Args:
            query, key, mask, scale: of all rows, as :mod:`diffusers_rdaam.kernels.reference` has
                them.
            lse: the attention's log-sum-exp ``(rows, heads, positions)``, where it is at hand.
        """
        if self.fits(query, key):
            self.add_from(0, query, key, mask, scale, lse)

    def add_from(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scale: float,
        lse: Tensor | None = None,
    ) -> None:
        """Add the probabilities of a call that fits, to the branches from ``index`` on."""
        # Nothing is kept for a way back. Entering the block costs more than to ask.
        if torch.is_grad_enabled():
            with torch.no_grad():
                self.add_from(index, query, key, mask, scale, lse)
            return
        for branch in self.branches if index == 0 else self.branches[index:]:
            whole = branch.stop - branch.start == query.shape[0]
            self.accumulate(
                query,
                key,
                branch.high,
                branch.low,
                mask=mask,
                scale=scale,
                lse=lse,
                count=branch.count,
                first=None if whole else branch.start,
            )

    def fits(self, query: Tensor, key: Tensor) -> bool:
        """Whether a call has the rows, positions and columns expected; noted where it has not."""
        rows, _, positions, _ = query.shape
        columns = key.shape[2]
        # Of a tensor: numbers of our own would be compiled in, and every size compiled anew.
        right = self.branches[0].high.shape[-2:] == (columns, positions)
        if right and (self.rows is None or rows == self.rows):
            return True
        self._misfits(self._difference(rows, positions, columns))
        return False

    def _difference(self, rows: int, positions: int, columns: int) -> str:
        wanted_columns, wanted_positions = self.branches[0].high.shape[-2:]
        if self.rows is not None and rows != self.rows:
            return (
                f"with {rows} rows, where its denoiser call has {self.rows}: something "
                "splits the batch inside of the denoiser, or multiplies it"
            )
        if positions != wanted_positions:
            return (
                f"from {positions} image positions, where {wanted_positions} were expected of its "
                "level and the latent's size: this denoiser's samplers are not known, or something "
                "cuts its input into tiles"
            )
        if self.kind == "self":
            return (
                f"to {columns} image positions, where {wanted_columns} were expected: something "
                "adds positions, or merges some"
            )
        return (
            f"to {columns} columns, where {wanted_columns} were expected of the text: something "
            "adds columns to it, or leaves some out"
        )

    def _misfits(self, what: str) -> None:
        self.misfit = (
            f"{self.site} attends {what}. Switch that off to record, or generate without "
            "recording: pipe.set_attn_processor(AttnProcessor2_0())."
        )


@runtime_checkable
class Observer(Protocol):
    """What sees the queries and keys of a site during one denoiser call."""

    failure: Exception | None

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """See those of one call of the site."""


class ObserverGroup:
    """Observers of one site; they see the same calls."""

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers

    @property
    def failure(self) -> Exception | None:
        """The first exception of any; setting it sets that of the first observer."""
        found = (one.failure for one in self.observers if one.failure is not None)
        return next(found, None)

    @failure.setter
    def failure(self, error: Exception | None) -> None:
        self.observers[0].failure = error

    def add(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float) -> None:
        """Every observer, in order."""
        for observer in self.observers:
            observer.add(query, key, mask, scale)


class RecordingProcessor:
    """What a processor is that records: the name of its site, and a target while it does.

    ``kind`` is that of the site. ``thread`` is the one whose calls are recorded, and ``original``
    the processor that it was put in the place of, unless it is that itself. ``used`` is the kernel
    of the last recorded call.
    """

    site: str | None = None
    kind: SiteKind = "cross"
    target: Observer | None = None
    thread: int | None = None
    original: Any = None
    used: KernelInUse | None = None

    def arm(self, target: Observer, thread: int | None) -> None:
        """Record into a target from now on, what this thread calls."""
        choice = choice_of(target)
        # The thread first: another one, between the two, must not take the target for its own.
        self.thread = thread
        self.used = None if choice is None else choice.used
        self.target = target

    def observer(self, context: object) -> Observer | None:
        """The target, where a call is one to add.

        At a cross-attention site that is every call with a text: one without attends from the image
        to itself. At a self-attention site it is every call without, and at a joint one every call.

        Args:
            context: the encoder's states, if the call has some.

        Read once for a call: another thread may disarm the processor meanwhile. Calls of another
        thread are somebody else's run on the same denoiser.
        """
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


def choice_of(observer: Observer) -> KernelChoice | None:
    """The kernel of a site's maps; of several observers the first is theirs."""
    while isinstance(observer, ObserverGroup):
        observer = observer.observers[0]
    return observer.choice if isinstance(observer, Target) else None


def observe(
    observer: Observer, query: Tensor, key: Tensor, mask: Tensor | None, scale: float, **more: Any
) -> None:
    """Show an observer one call of its site.

    An exception, such as out of memory, is noted with the observer: recording ends there, and the
    image is made. Compiled code has no such net, its operations are not called one by one.
    """
    if torch.compiler.is_compiling():
        observer.add(query, key, mask, scale, **more)
        return
    if observer.failure is not None:
        return
    try:
        observer.add(query, key, mask, scale, **more)
    except Exception as error:
        observer.failure = without_frames(error)


def without_frames(error: Exception) -> Exception:
    """The exception without its traceback, whose frames would hold the tensors of the call."""
    return error.with_traceback(None)
