"""first_run: the first call of a pipeline, which shows what inputs it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from diffusers_rdaam.diagnosis.call_inputs import CallInputs, inputs_of
from diffusers_rdaam.errors import RDAAMError

Result = TypeVar("Result")


def first_run(
    inputs: CallInputs, run: Callable[[dict[str, Any]], Result]
) -> tuple[Result, dict[str, Any]]:
    """The result of the first call that does not fail, and its arguments.

    Args:
        inputs: those of the pipeline.
        run: makes a call with arguments; what it raises is taken for a lack of inputs as long as
            there are any to build.

    Raises:
        FailedRun: none of the calls was possible.
    """
    failed: dict[str, FailedRun] = {}
    for call in inputs.candidates():
        try:
            return _run_in_tiles(inputs.pipe, run, call), call
        except (RDAAMError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            last = repr(error)
            # What more arguments do not change is said of the call without them.
            failed.setdefault(last, FailedRun(inputs, call, error))
    raise failed[last]


class FailedRun(Exception):
    """A run of the stock pipeline that ended with an exception of a library.

    Args:
        inputs: of the pipeline.
        call: the arguments of the run.
        error: what was raised.
    """

    def __init__(self, inputs: CallInputs, call: Mapping[str, Any], error: Exception) -> None:
        super().__init__(str(error))
        self.built, self.error = inputs.described(call), error
        self.inputs = inputs_of(inputs.taken)


def _run_in_tiles(pipe: Any, run: Callable[[dict[str, Any]], Result], call: dict[str, Any]) -> Any:
    """The result of a run, with tiles where the autoencoder has no other way."""
    vae: Any = getattr(pipe, "vae", None)
    try:
        return run(call)
    except NotImplementedError as error:
        if "tiling" not in str(error) or not hasattr(vae, "enable_tiling"):
            raise
    vae.enable_tiling()
    return run(call)


@contextmanager
def tiling_as_it_was(pipe: Any) -> Iterator[None]:
    """Within the block the autoencoder may begin to work in tiles; then it is as it was."""
    vae: Any = getattr(pipe, "vae", None)
    before = getattr(vae, "use_tiling", None)
    try:
        yield
    finally:
        if before is False:
            vae.use_tiling = before
