"""Record the runs of a pipeline within a block, whether it is a stock one or one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.errors import AlreadyRecordingError
from diffusers_rdaam.families import family_of
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.record_attention import Recording, record_attention
from diffusers_rdaam.recording.installation import Before, remember, restore

if TYPE_CHECKING:
    from typing import Self

_NO_RUN = "There has been no run in this block yet: call the pipeline first."


@contextmanager
def recorded(pipe: Any, processor: RDAAMProcessor) -> Iterator[Recording]:
    """The runs inside the block; afterwards the pipeline is as before, except for its last run.

    Args:
        pipe: a stock pipeline, or one of this package, which records anyway and is given these
            options for the time of the block.
        processor: the options.

    Raises:
        UnsupportedPipelineError: the layout of this pipeline's denoiser calls is not known.
        ProcessorError: a site has a processor that cannot be recorded.
    """
    if not isinstance(pipe, RDAAMPipelineMixin):
        with record_attention(pipe, processor) as recording:
            assert isinstance(recording, Recording)
            yield recording
        return
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            _lend_options(pipe, processor, undo)
            recording = Recording(pipe)
            # Runs before the rest of the list, whose entries take the answers away.
            undo.callback(recording._close)
            yield recording
    finally:
        undo.close()


def _lend_options(pipe: Any, processor: RDAAMProcessor, undo: ExitStack) -> None:
    """Give a pipeline of this package other options; the undo list gives it its own again."""
    family = family_of(pipe)
    denoiser = family.denoiser(pipe)
    sites = (*family.sites(denoiser), *family.self_attention_sites(denoiser))
    # Whatever interrupts the careful way back, which leaves what somebody else has put on a site.
    by_force = ExitStack()
    undo.callback(by_force.close)
    undo.callback(_restore_gently, remember(sites), by_force)
    for site in sites:
        by_force.callback(setattr, site.module, "processor", site.processor)
    attributes = pipe.__dict__
    for name in ("_rdaam_template", "_rdaam_installed"):
        if name in attributes:
            undo.callback(attributes.__setitem__, name, attributes[name])
        else:
            undo.callback(attributes.pop, name, None)
    # Before them all: whether there was a run is seen in what the block leaves.
    undo.callback(_answers_of_before, pipe, pipe._rdaam_attributions, pipe._rdaam_why)
    pipe.set_attn_processor(processor)
    # The attributions of a run before the block are no answer to a question in it.
    pipe._rdaam_attributions, pipe._rdaam_why = None, _NO_RUN


def _restore_gently(before: list[Before], by_force: ExitStack) -> None:
    restore(before)
    by_force.pop_all()


def _answers_of_before(pipe: Any, attributions: Any, why: str | None) -> None:
    if pipe._rdaam_why == _NO_RUN:
        pipe._rdaam_attributions, pipe._rdaam_why = attributions, why


class Hooked(ExitStack):
    """Records a pipeline as a block, or from ``hook()`` to ``unhook()``; mixed before others.

    It is the standard library's stack itself: no line of ours runs between the end of a block and
    the way back, so that an interrupt there cannot leave the pipeline hooked.

    Args:
        pipe: a stock pipeline, or one of this package.
        processor: the options.
        name: what the predecessor calls such an object, for the error.
    """

    def __init__(self, pipe: Any, processor: RDAAMProcessor, name: str) -> None:
        super().__init__()
        self._hooked_pipe = pipe
        self._processor = processor
        self._name = name
        self._recording: Recording | None = None
        self._hooked = False

    def hook(self) -> Self:
        """Begin to record.

        Raises:
            AlreadyRecordingError: it has begun.
            UnsupportedPipelineError: the pipeline cannot be recorded.
        """
        if self._hooked:
            raise AlreadyRecordingError(
                f"This {self._name} is hooked already. Call unhook() first."
            )
        try:
            self.callback(setattr, self, "_hooked", False)
            self._hooked = True
            self._recording = self.enter_context(recorded(self._hooked_pipe, self._processor))
        except BaseException:
            self.close()
            raise
        return self

    unhook = ExitStack.close

    def __enter__(self) -> Self:
        return self.hook()


class Trace(Hooked):
    """The trace of DAAM and DAAM-I2I: the runs of a block, with a count of steps."""

    def __init__(self, pipe: Any, processor: RDAAMProcessor) -> None:
        super().__init__(pipe, processor, "trace")
        self.pipe = pipe
        self.time_idx = 0

    def time_callback(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Count the steps; for ``callback_on_step_end``."""
        self.time_idx += 1
        given = args[3] if len(args) > 3 else kwargs.get("callback_kwargs")
        return given or {}
