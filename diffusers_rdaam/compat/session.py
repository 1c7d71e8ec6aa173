"""Record the runs of a pipeline within a block, whether it is a stock one or one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.record import Recording, record_attention
from diffusers_rdaam.recording.families import family_of
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.sites import remember, restore

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
