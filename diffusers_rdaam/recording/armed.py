"""Which denoisers are being recorded, and by which run."""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from diffusers_rdaam.errors import AlreadyRecordingError

# By a weak reference to the run: one that nothing holds any more cannot keep a denoiser busy,
# whatever became of its undo list.
_armed: WeakKeyDictionary[nn.Module, weakref.ref[Any]] = WeakKeyDictionary()
_lock = threading.Lock()


def claim(denoiser: nn.Module, run: Any, undo: ExitStack) -> None:
    """Register a run as the only one that records, edits or follows a denoiser.

    Args:
        denoiser: whose calls it follows.
        run: any object that lives as long as the run.
        undo: gets the entry that ends the claim, before the claim is made.

    Raises:
        AlreadyRecordingError: another living run has the denoiser.
    """
    with _lock:
        holder = _armed.get(denoiser)
        if holder is not None and holder() is not None:
            raise AlreadyRecordingError(
                f"This {type(denoiser).__name__} is being recorded already, by another "
                "call, pipeline or thread that shares it. Wait for that run to end, or give "
                "each thread a pipeline with a denoiser of its own."
            )
        undo.callback(_armed.pop, denoiser, None)
        _armed[denoiser] = weakref.ref(run)


def is_claimed(denoiser: nn.Module) -> bool:
    """Whether a living run has the denoiser."""
    holder = _armed.get(denoiser)
    return holder is not None and holder() is not None
