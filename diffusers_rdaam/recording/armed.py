"""Which denoisers are being recorded, and by which run."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from diffusers_rdaam.errors import AlreadyRecordingError

# By a weak reference to the run: one that nothing holds any more cannot keep a denoiser busy,
# whatever became of its undo list.
_armed: WeakKeyDictionary[nn.Module, weakref.ref[Any]] = WeakKeyDictionary()


def claim(denoiser: nn.Module, run: Any, undo: ExitStack) -> None:
    """Register a run as the only one that records, edits or follows a denoiser.

    Args:
        denoiser: whose calls it follows.
        run: any object that lives as long as the run.
        undo: gets the entry that ends the claim.

    Raises:
        AlreadyRecordingError: another living run has the denoiser.
    """
    ours = weakref.ref(run)
    # One atomic step in place of a lock: an interrupt could leave that locked for ever.
    while (holder := _armed.setdefault(denoiser, ours)) is not ours:
        if holder() is not None:
            raise AlreadyRecordingError(
                f"This {type(denoiser).__name__} is being recorded already, by another "
                "call, pipeline or thread that shares it. Wait for that run to end, or give "
                "each thread a pipeline with a denoiser of its own."
            )
        if _armed.get(denoiser) is holder:
            _armed.pop(denoiser, None)
    # After the change, unlike other entries: it would end another run's claim where ours failed.
    undo.callback(_armed.pop, denoiser, None)


def is_claimed(denoiser: nn.Module) -> bool:
    """Whether a living run has the denoiser."""
    holder = _armed.get(denoiser)
    return holder is not None and holder() is not None
