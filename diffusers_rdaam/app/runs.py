"""The queue of one denoiser: one run at a time, in order, each of which can be cancelled."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import InputError, RDAAMError, RDAAMWarning

State = Literal["waiting", "running", "done", "failed", "cancelled"]
MOST_WAITING = 64


class CancelledRun(Exception):
    """Raised between two steps of a run that somebody has cancelled."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        step, steps: denoiser steps done, and in all.
        image, images: which image is being made, from 1, and how many there will be.
        attribution: of the image so far, with what it looks like; None before the first preview.
    """

    step: int = 0
    steps: int = 0
    image: int = 1
    images: int = 1
    attribution: Attribution | None = None


class Run:
    """One piece of work for a denoiser, as its queue, its worker and its page see it.

    Args:
        work: gets the pipelines and this run; what it returns is the result.
    """

    def __init__(self, work: Callable[[Any, Run], Any]) -> None:
        self.work: Callable[[Any, Run], Any] | None = work
        self.progress = Progress()
        self.result: Any = None
        self.error: BaseException | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0
        self._state: State = "waiting"
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        # Set by the queue, which lets a run that waits go at once.
        self.on_cancel: Callable[[], None] = lambda: None

    @property
    def state(self) -> State:
        """Where the run is: waiting, running, done, failed or cancelled."""
        return self._state

    @property
    def has_ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """End the run before its next step; one that waits is ended at once."""
        self._cancelled.set()
        self.on_cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has asked for its end."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise :class:`CancelledRun` where the run was cancelled."""
        if self._cancelled.is_set():
            raise CancelledRun

    def at_step(self, pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        """A ``callback_on_step_end`` that counts the steps, and ends a cancelled run."""
        self.check()
        steps = int(getattr(pipe, "num_timesteps", 0) or step + 1)
        old = self.progress
        self.progress = Progress(step + 1, steps, old.image, old.images, old.attribution)
        return tensors

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; returns whether it has come."""
        return self._ended.wait(seconds)

    def outcome(self) -> Any:
        """The result of a run that is done.

        Raises:
            CancelledRun: it was cancelled.
            BaseException: what its work raised.
        """
        if self._state == "cancelled":
            raise CancelledRun
        if self.error is not None:
            raise self.error
        return self.result

    def begin(self) -> None:
        """Note that the worker has taken it."""
        self._state = "running"

    def end(self, state: State) -> None:
        """Note the end; the work and what it holds are let go."""
        self.work = None
        self._state = state
        self._ended.set()


class WarningsByThread:
    """Hands the package's warnings to the run of the thread that they come from.

    Python's list of filters is the whole process's, so that two workers would otherwise read each
    other's warnings. It is changed while any run goes on, and put back after the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[int, list[str]] = {}
        self._context: Any = None

    def start(self, texts: list[str]) -> None:
        """Append what this thread warns of to ``texts`` from now on."""
        with self._lock:
            if self._context is None:
                self._context = warnings.catch_warnings()
                self._context.__enter__()
                warnings.simplefilter("always", RDAAMWarning)
                self._shown = warnings.showwarning
                warnings.showwarning = self._show
            self._texts[threading.get_ident()] = texts

    def stop(self) -> None:
        """Stop that."""
        with self._lock:
            self._texts.pop(threading.get_ident(), None)
            if not self._texts and self._context is not None:
                context, self._context = self._context, None
                context.__exit__(None, None, None)

    def _show(self, message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        texts = self._texts.get(threading.get_ident())
        if texts is None or not issubclass(category, RDAAMWarning):
            self._shown(message, category, *place, **more)
        elif str(message) not in texts:
            texts.append(str(message))


_warnings = WarningsByThread()


class Denoiser:
    """One model with its queue: a thread of its own loads it, and does every run in order.

    Everything of a run happens in that thread, its tokenizers too: they keep the padding of a call
    as their state, so that two threads would disturb each other.

    Args:
        name: shown in the page.
        load: makes the pipeline; called before the first run, and again after it has failed.
        wrap: makes of the pipeline what the work of a run is given.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Any],
        *,
        wrap: Callable[[Any], Any] = lambda pipe: pipe,
    ) -> None:
        self.name = name
        self._load, self._wrap = load, wrap
        self._loaded: Any = None
        self._waiting: deque[Run] = deque()
        self._current: Run | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[Any, Run], Any]) -> Run:
        """Put a piece of work at the end of the queue.

        Raises:
            InputError: the queue is full, or the server ends.
        """
        run = Run(work)
        with self._changed:
            if self._is_closed:
                raise InputError(
                    "The server is shutting down, and no new run is started. Start it again."
                )
            if len(self._waiting) >= MOST_WAITING:
                raise InputError(
                    f"The queue is full: {len(self._waiting)} runs wait for {self.name}. Try again "
                    "when some have ended."
                )
            run.on_cancel = self._drop_cancelled
            self._waiting.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, daemon=True, name=self.name)
                self._thread.start()
            self._changed.notify_all()
        return run

    def place(self, run: Run) -> int:
        """How many runs come before this one."""
        with self._changed:
            if run not in self._waiting:
                return 0
            return self._waiting.index(run) + (self._current is not None)

    @property
    def loaded(self) -> Any:
        """What the work of a run is given; None until the first run has loaded the model."""
        return self._loaded

    @property
    def is_idle(self) -> bool:
        """Whether no run is going on or waits."""
        with self._changed:
            return self._current is None and not self._waiting

    def close(self) -> None:
        """Cancel every run and end the thread."""
        with self._changed:
            self._is_closed = True
            for run in [*self._waiting, *([self._current] if self._current else [])]:
                run.cancel()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=60)

    def _drop_cancelled(self) -> None:
        with self._changed:
            for run in [one for one in self._waiting if one.is_cancelled]:
                self._waiting.remove(run)
                run.end("cancelled")

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                run = self._current = self._waiting.popleft()
            try:
                self._do(run)
            finally:
                with self._changed:
                    self._current = None
            del run

    def _do(self, run: Run) -> None:
        run.begin()
        work = run.work
        assert work is not None
        began = time.perf_counter()
        state: State = "failed"
        _warnings.start(run.warnings)
        try:
            run.check()
            if self._loaded is None:
                self._loaded = self._wrap(self._load())
            # Loading is not a part of what a run costs.
            began = time.perf_counter()
            run.result = work(self._loaded, run)
            state = "done"
        except CancelledRun:
            state = "cancelled"
        except BaseException as error:
            # Whatever it is, it is the run's, and the next one has its turn.
            run.error = _without_frames(error)
        finally:
            _warnings.stop()
            run.seconds = time.perf_counter() - began
            run.end(state)


def _without_frames(error: BaseException) -> BaseException:
    """The error without its traceback, whose frames hold the tensors of the run."""
    if isinstance(error, RDAAMError):
        return error.with_traceback(None)
    text = (str(error).strip() or "no reason is given").splitlines()[0][:500]
    return RuntimeError(f"{type(error).__name__}: {text}")
