"""A scheduler that reports its steps to a recorded run."""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

# By object: a copy of a scheduler, which some loops make, reports to no run.
_watchers: WeakKeyDictionary[Any, weakref.ref[Any]] = WeakKeyDictionary()


class Watcher(Protocol):
    """An object that follows a scheduler's steps."""

    def before_step(self, latents: Any, timestep: Any) -> None:
        """Follow a step, which the scheduler is about to make from these latents."""

    def on_new_timesteps(self) -> None:
        """Follow the beginning of a loop: the scheduler gets its timesteps."""


def watch(scheduler: Any, watcher: Watcher, undo: ExitStack) -> None:
    """Report a scheduler's steps to a watcher; do nothing where it has no ``step``.

    Args:
        scheduler: the pipeline's; its class becomes a subclass of the same name.
        watcher: held by a weak reference.
        undo: gets the entries that give the scheduler its class back.
    """
    cls: Any = type(scheduler)
    if not callable(getattr(cls, "step", None)) or "_rdaam_stock" in cls.__dict__:
        return
    try:
        watched = _watched_class(cls)
        undo.callback(_watchers.pop, scheduler, None)
        undo.callback(setattr, scheduler, "__class__", cls)
        _watchers[scheduler] = weakref.ref(watcher)
        scheduler.__class__ = watched
    except TypeError:
        # A class whose memory layout forbids another class: its steps are not followed.
        return


def _watcher_of(scheduler: Any) -> Watcher | None:
    reference = _watchers.get(scheduler)
    return None if reference is None else reference()


class _EqualToStock(type):
    """The class of a class that equals the one it descends from: Bria's loop compares classes."""

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.__dict__["_rdaam_stock"]

    def __hash__(cls) -> int:
        return hash(cls.__dict__["_rdaam_stock"])


@lru_cache(maxsize=32)
def _watched_class(cls: type) -> type:
    # diffusers looks at the names and signatures of schedulers.
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__qualname__": cls.__qualname__,
        "_rdaam_stock": cls,
        "__reduce_ex__": _as_stock,
    }
    stock_step: Any = cls.step  # type: ignore[attr-defined]  # it was asked for

    @functools.wraps(stock_step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        watcher = _watcher_of(self)
        if watcher is not None:
            _, timestep, latents = (*args, None, None, None)[:3]
            watcher.before_step(kwargs.get("sample", latents), kwargs.get("timestep", timestep))
        return stock_step(self, *args, **kwargs)

    body["step"] = step
    stock_set: Any = getattr(cls, "set_timesteps", None)
    if stock_set is not None:

        @functools.wraps(stock_set)
        def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> Any:
            watcher = _watcher_of(self)
            if watcher is not None:
                watcher.on_new_timesteps()
            return stock_set(self, *args, **kwargs)

        body["set_timesteps"] = set_timesteps
    return _EqualToStock(cls.__name__, (cls,), body)


def _as_stock(self: Any, protocol: Any) -> Any:
    # A copy has the stock class: this class is not an attribute of a module.
    stock = type(self)._rdaam_stock
    return (stock.__new__, (stock,), self.__dict__)
