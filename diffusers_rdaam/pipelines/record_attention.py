"""record_attention: record a pipeline that somebody else built."""

from __future__ import annotations

import reprlib
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, _GeneratorContextManager
from functools import lru_cache
from typing import Any

from diffusers import DiffusionPipeline

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import (
    AlreadyRecordingError,
    InputError,
    NoAttributionError,
    SeveralRunsWarning,
)
from diffusers_rdaam.families import family_of, self_attention_sites_of, sites_of
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.output import only
from diffusers_rdaam.pipelines.record_denoiser import (
    CallContext,
    DenoiserRecording,
    Texts,
    is_denoiser,
    record_denoiser,
)
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.recording.installation import install_for_run


class Recording:
    """The runs of a pipeline inside ``with record_attention(pipe) as recording``."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._kept: Any = None
        self._runs: list[list[Attribution] | None] = []
        self._seen = 0

    @property
    def attributions(self) -> list[Attribution]:
        """The attributions of the last run, one an image.

        Raises:
            NoAttributionError: there was no run yet, or it failed.
        """
        self._warn_of_earlier()
        return self._source.attributions

    @property
    def attribution(self) -> Attribution:
        """The attribution of the last run's only image.

        Raises:
            NoAttributionError: there is none, or there are several.
        """
        self._warn_of_earlier()
        source = self._source
        return only(source._rdaam_attributions, source._rdaam_why, owner="recording")

    @property
    def attributions_of_runs(self) -> list[list[Attribution] | None]:
        """The attributions of every run in the block, in order; None for a run without."""
        self._seen = len(self._runs)
        return list(self._runs)

    def _warn_of_earlier(self) -> None:
        """Say that there were runs that nobody has asked for."""
        unseen, self._seen = len(self._runs) - self._seen, len(self._runs)
        if unseen > 1:
            warn(
                f"{len(self._runs)} runs were recorded in this block; this is the last. "
                "recording.attributions_of_runs has those of each.",
                SeveralRunsWarning,
            )

    @property
    def _source(self) -> Any:
        return self._pipe if self._kept is None else self._kept

    def _close(self) -> None:
        """Keep the last run's result, let the pipeline go."""
        kept = RDAAMPipelineMixin()
        kept._rdaam_attributions = self._pipe._rdaam_attributions
        kept._rdaam_why = self._pipe._rdaam_why
        self._kept, self._pipe = kept, None

    def __repr__(self) -> str:
        runs = "1 run" if len(self._runs) == 1 else f"{len(self._runs)} runs"
        return f"Recording({runs})"


def _new(stock: Any) -> Any:
    return stock.__new__(stock)


def _as_stock(stock: type) -> Any:
    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        # A copy is the stock pipeline: the class of the block has no place in a module.
        state = {
            name: value for name, value in vars(self).items() if not name.startswith("_rdaam_")
        }
        return (_new, (stock,), state)

    return __reduce_ex__


@lru_cache(maxsize=32)
def _recording_class(stock: type) -> type:
    """A class like ``stock`` that records; its name is the stock one's."""
    body = {
        "__module__": stock.__module__,
        "__doc__": stock.__doc__,
        "__reduce_ex__": _as_stock(stock),
        "_rdaam_records": stock,
    }
    return type(stock.__name__, (RDAAMPipelineMixin, stock), body)


class _Block(_GeneratorContextManager[Recording | DenoiserRecording]):
    """What ``with record_attention(…)`` enters; outside of a block it has nothing to answer."""

    @property
    def attribution(self) -> Attribution:
        """Nothing: the recording that the block hands over has it."""
        raise NoAttributionError(
            "record_attention(…) records inside of a with block, and was not entered. Write: with "
            "record_attention(pipe) as recording: pipe(…), then recording.attribution."
        )

    @property
    def attributions(self) -> list[Attribution]:
        """Nothing, as :attr:`attribution`."""
        return [self.attribution]


def record_attention(
    pipe: Any,
    processor: RDAAMProcessor | None = None,
    *,
    rows: Any = None,
    prompt: Texts = None,
    negative_prompt: Texts = None,
    tokenizer: Any = None,
    image_size: tuple[int, int] | None = None,
) -> AbstractContextManager[Recording | DenoiserRecording]:
    """Record a stock pipeline, a modular one, or a denoiser within a ``with`` block.

    A pipeline is made one of ours for the time of the block and is then exactly what it was, its
    processors included, also after an exception or an interrupt. Each of its calls is a run.

    Of a modular pipeline or a denoiser all calls in the block are one run, and what they do not
    say is given here.

    Args:
        pipe: a diffusers pipeline of a supported class, or of a class derived from one; a modular
            pipeline; or a denoiser, a UNet or a transformer.
        processor: a template with options; the default one if not given.
        rows: which rows of a denoiser's calls carry the prompt: ``"conditional"`` (all of them);
            the names of the equal parts of the batch, such as ``("unconditional",
            "conditional")``; or a function of a call's args and kwargs that returns them, and
            ``()`` for a call that does not make the image. A modular pipeline's guider says it, and
            so does the class of a stock pipeline; a class with a loop of its own may need it.
        prompt: the texts, one or one for each; a stock pipeline's calls say them. For a class with
            a loop of its own it is the text of its embedding.
        negative_prompt: the same, of a denoiser.
        tokenizer: that made the columns of a denoiser; a pipeline has its own.
        image_size: of a denoiser's images, height and width in pixels; those that the latent is
            decoded to if not given.

    Raises:
        UnsupportedPipelineError: the layout of this pipeline's denoiser calls is not known, or
            its denoiser has no modules that could be seen.
        AlreadyRecordingError: the pipeline records already.
        ProcessorError: a site has a processor that cannot be recorded.
        InputError: what is given does not go with what is recorded, or is missing.
    """
    context = CallContext(rows, prompt, negative_prompt, tokenizer, image_size)
    return _Block(_recorded_block, (pipe, processor, context), {})


def _recorded_block(
    pipe: Any, processor: RDAAMProcessor | None, context: CallContext
) -> Generator[Recording | DenoiserRecording, None, None]:
    if is_denoiser(pipe):
        with record_denoiser(pipe, processor, context) as recorded:
            yield recorded
        return
    _check_pipeline(pipe, context)
    family = family_of(pipe, context.rows)
    denoiser = family.denoiser(pipe)
    sites, self_attention_sites = sites_of(family, pipe), self_attention_sites_of(family, pipe)
    template = processor or _template_on(sites) or RDAAMProcessor()
    stock = type(pipe)
    recording = Recording(pipe)
    undo = ExitStack()
    with undo:
        try:
            for name in _ATTRIBUTES:
                undo.callback(pipe.__dict__.pop, name, None)
            undo.callback(setattr, pipe, "__class__", stock)
            pipe.__class__ = _recording_class(stock)  # type: ignore[arg-type]  # classes hash
            install_for_run(sites, self_attention_sites, template, undo)
            pipe._rdaam_template, pipe._rdaam_installed = template, id(denoiser)
            pipe._rdaam_rows, pipe._rdaam_prompt = context.rows, context.prompt
            pipe._rdaam_runs = recording._runs
            # Not in a ``try`` of its own: no handler covers that line of bytecode.
            undo.callback(recording._close)
            yield recording
        finally:
            undo.close()


def _template_on(sites: Iterable[Site]) -> RDAAMProcessor | None:
    """The options that a user has set on the denoiser itself."""
    processors = (site.processor for site in sites)
    return next((p for p in processors if isinstance(p, RDAAMProcessor) and p.site is None), None)


def _check_pipeline(pipe: Any, context: CallContext) -> None:
    """See that a pipeline may be recorded with what was given.

    Raises:
        InputError, AlreadyRecordingError: it may not.
    """
    if not isinstance(pipe, DiffusionPipeline):
        raise InputError(
            "record_attention takes a pipeline of diffusers, a modular one or a denoiser; got "
            f"{reprlib.repr(pipe)} of type {type(pipe).__name__}."
        )
    if context != CallContext(rows=context.rows, prompt=context.prompt):
        raise InputError(
            f"{type(pipe).__name__} is a pipeline: it has a tokenizer, and its calls tell the "
            "negative prompt and the size. negative_prompt=, tokenizer= and image_size= are for a "
            "denoiser; rows= and prompt= also for a pipeline class with a loop of its own."
        )
    if isinstance(pipe, RDAAMPipelineMixin):
        raise AlreadyRecordingError(
            f"This {type(pipe).__name__} records already: its outputs have an attribution. "
            "record_attention is for stock pipelines, and blocks do not nest."
        )


_ATTRIBUTES = (
    *(name for name in RDAAMPipelineMixin.__annotations__ if name.startswith("_rdaam_")),
    "_rdaam_replacements",
)
