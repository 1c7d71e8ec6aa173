"""The denoisers that are being recorded, and the run that records each."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from diffusers_rdaam.errors import AlreadyRecordingError

# The runs that claim each denoiser, in order; the first living one has it. The references are weak:
# a run that was dropped cannot block a denoiser, even if its undo list was never closed.
_Runs = dict[int, weakref.ref[Any]]
_armed: WeakKeyDictionary[nn.Module, _Runs] = WeakKeyDictionary()


def claim(denoiser: nn.Module, run: Any, undo: ExitStack) -> None:
    """Register a run as the only one that records, edits or follows a denoiser.

    Args:
        denoiser: the module whose calls the run follows.
        run: any object that lives as long as the run.
        undo: gets the entry that ends the claim.

    Raises:
        AlreadyRecordingError: another living run has the denoiser.
    """
    ours = weakref.ref(run)
    # Every step is atomic. An interrupt could leave a lock locked for ever.
    runs = _armed.setdefault(denoiser, {})
    # Under a key of this run: if the claim fails, the entry ends no other run's claim.
    undo.callback(runs.pop, id(ours), None)
    runs[id(ours)] = ours
    for holder in list(runs.values()):
        if holder is ours:
            return
        if holder() is not None:
            runs.pop(id(ours), None)
            raise AlreadyRecordingError(
                f"This {type(denoiser).__name__} is being recorded already, by another "
                "call, pipeline or thread that shares it. Wait for that run to end, or give "
                "each thread a pipeline with its own denoiser."
            )
        runs.pop(id(holder), None)


def is_claimed(denoiser: nn.Module) -> bool:
    """Whether a living run has the denoiser."""
    return any(holder() is not None for holder in list(_armed.get(denoiser, {}).values()))
