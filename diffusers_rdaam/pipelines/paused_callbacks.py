"""Callbacks of a recorded run: what they ask of the denoiser does not belong to the run."""

from __future__ import annotations

import functools
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from diffusers_rdaam.recording.recorder import Recorder

_NAMES = ("callback_on_step_end", "callback")


def unrecorded(arguments: dict[str, Any], recorder: Recorder) -> dict[str, Any]:
    """A pipeline's arguments, with callbacks during which the recorder pauses.

    A callback may run another pipeline on the same denoiser, or call it itself. One that keeps
    something of a run begins anew here: a run that is interrupted has no first step.
    """
    for name in _NAMES:
        begin_run(arguments.get(name), recorder.pipe)
    wrapped = {
        name: _paused(arguments[name], recorder)
        for name in _NAMES
        if arguments.get(name) is not None
    }
    return arguments | wrapped


def begin_run(callback: Any, pipeline: Any) -> None:
    """Let a callback of this package, or those in a chain of diffusers', forget the run before."""
    if isinstance(callback, MultiPipelineCallbacks):
        for one in callback.callbacks:
            begin_run(one, pipeline)
    elif hasattr(callback, "begin_run"):
        callback.begin_run(pipeline)


def _paused(callback: Any, recorder: Recorder) -> Any:
    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        return _Paused(callback, recorder)

    @functools.wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Any:
        with recorder.paused():
            return callback(*args, **kwargs)

    return call


class _Paused(PipelineCallback):
    """diffusers asks callbacks of this class which tensors they want."""

    def __init__(self, callback: Any, recorder: Recorder) -> None:
        super().__init__()
        self._callback = callback
        self._recorder = recorder

    @property
    def tensor_inputs(self) -> list[str]:
        """Those of the callback."""
        return self._callback.tensor_inputs

    def callback_fn(
        self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The callback, with the recorder paused."""
        with self._recorder.paused():
            return self._callback(pipeline, step_index, timesteps, callback_kwargs)
