"""Observer: an object that sees the attention calls of a site during one denoiser call."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from diffusers_rdaam.attention.attention_call import AttentionCall


@runtime_checkable
class Observer(Protocol):
    """An object that sees each attention call of a site during one denoiser call.

    Attributes:
        failure: the exception that ended its recording, None while it works.
    """

    failure: Exception | None

    def see(self, call: AttentionCall) -> None:
        """Record one call of the site."""


class ObserverGroup:
    """Observers of one site, which see the same calls in their order.

    Args:
        observers: at least one. The maps of the site are the first one's.
    """

    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self.observers = observers

    @property
    def failure(self) -> Exception | None:
        """The first exception of any observer; setting it sets the first observer's."""
        failures = (one.failure for one in self.observers if one.failure is not None)
        return next(failures, None)

    @failure.setter
    def failure(self, error: Exception | None) -> None:
        self.observers[0].failure = error

    def see(self, call: AttentionCall) -> None:
        """Show the call to every observer."""
        for observer in self.observers:
            observer.see(call)


def observe(observer: Observer, call: AttentionCall) -> None:
    """Show an observer one call of its site.

    An exception, such as out of memory, is noted with the observer: recording ends there, and the
    image is still made. In compiled code nothing is caught, because its operations do not run one
    by one.
    """
    if torch.compiler.is_compiling():
        observer.see(call)
        return
    if observer.failure is not None:
        return
    try:
        observer.see(call)
    except Exception as error:
        observer.failure = without_frames(error)


def without_frames(error: Exception) -> Exception:
    """The exception without its traceback, whose frames would hold the tensors of the call."""
    return error.with_traceback(None)
