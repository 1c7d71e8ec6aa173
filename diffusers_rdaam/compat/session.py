"""Record the runs of a pipeline within a block, whether it is a stock one or one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from diffusers_rdaam.errors import AlreadyRecordingError
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.record import Recording, record_attention
from diffusers_rdaam.recording.families import family_of
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.sites import remember, restore

if TYPE_CHECKING:
    from typing import Self

_NO_RUN = "There has been no run in this block yet: call the pipeline first."


@contextmanager
def recorded(pipe: Any, processor: RDAAMProcessor) -> Iterator[Recording]:
    """The runs inside the block; afterwards the pipeline is what it was, its last run apart.

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
    family = family_of(pipe)
    denoiser = family.denoiser(pipe)
    before = remember((*family.sites(denoiser), *family.self_sites(denoiser)))
    template, installed = pipe._rdaam_template, pipe._rdaam_installed
    earlier = pipe._rdaam_attributions, pipe._rdaam_why
    pipe.set_attn_processor(processor)
    # The attributions of a run before the block are no answer to a question in it.
    pipe._rdaam_attributions, pipe._rdaam_why = None, _NO_RUN
    recording = Recording(pipe)
    try:
        yield recording
    finally:
        recording._close()
        restore(before)
        pipe._rdaam_template, pipe._rdaam_installed = template, installed
        if pipe._rdaam_why == _NO_RUN:
            pipe._rdaam_attributions, pipe._rdaam_why = earlier


class Hooked:
    """Records a pipeline as a block, or from ``hook()`` to ``unhook()``; mixed before others.

    Args:
        pipe: a stock pipeline, or one of this package.
        processor: the options.
        name: what the predecessor calls such an object, for the error.
    """

    def __init__(self, pipe: Any, processor: RDAAMProcessor, name: str) -> None:
        self._hooked_pipe = pipe
        self._processor = processor
        self._name = name
        self._recording: Recording | None = None
        self._stack: ExitStack | None = None

    def hook(self) -> Self:
        """Begin to record.

        Raises:
            AlreadyRecordingError: it has begun.
            UnsupportedPipelineError: the pipeline cannot be recorded.
        """
        if self._stack is not None:
            raise AlreadyRecordingError(
                f"This {self._name} is hooked already. Call unhook() first."
            )
        with ExitStack() as stack:
            self._recording = stack.enter_context(recorded(self._hooked_pipe, self._processor))
            self._stack = stack.pop_all()
        return self

    def unhook(self) -> None:
        """End; the pipeline is what it was, and what its last run recorded stays here."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            stack.close()

    def __enter__(self) -> Self:
        return self.hook()

    def __exit__(self, *error: object) -> None:
        self.unhook()


class Trace(Hooked):
    """What DAAM and DAAM-I2I call a trace: it counts steps, too."""

    def __init__(self, pipe: Any, processor: RDAAMProcessor) -> None:
        super().__init__(pipe, processor, "trace")
        self.pipe = pipe
        self.time_idx = 0

    def time_callback(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Count the steps; for ``callback_on_step_end``."""
        self.time_idx += 1
        given = args[3] if len(args) > 3 else kwargs.get("callback_kwargs")
        return given or {}
