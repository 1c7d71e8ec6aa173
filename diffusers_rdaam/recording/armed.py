"""Which denoisers are being recorded, and by which run."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from diffusers_rdaam.errors import AlreadyRecordingError

# Of each denoiser the runs that want it, in order; the first that lives has it. By a weak reference
# to the run: one that nothing holds any more cannot keep a denoiser busy, whatever became of its
# undo list.
_Runs = dict[int, weakref.ref[Any]]
_armed: WeakKeyDictionary[nn.Module, _Runs] = WeakKeyDictionary()


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
    # Every step is atomic, in place of a lock: an interrupt could leave that locked for ever.
    runs = _armed.setdefault(denoiser, {})
    # By a number of its own: where the claim fails, this ends no other run's.
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
                "each thread a pipeline with a denoiser of its own."
            )
        runs.pop(id(holder), None)


def is_claimed(denoiser: nn.Module) -> bool:
    """Whether a living run has the denoiser."""
    return any(holder() is not None for holder in list(_armed.get(denoiser, {}).values()))
