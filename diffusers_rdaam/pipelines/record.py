"""record_attention: record a pipeline that somebody else built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import AlreadyRecordingError, InputError
from diffusers_rdaam.pipelines.denoiser import (
    DenoiserRecording,
    Given,
    Texts,
    is_denoiser,
    record_denoiser,
)
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.output import only
from diffusers_rdaam.recording.families import family_of
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.sites import remember, restore


class Recording:
    """The runs of a pipeline inside ``with record_attention(pipe) as recording``."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._kept: Any = None

    @property
    def attributions(self) -> list[Attribution]:
        """The attributions of the last run, one an image.

        Raises:
            NoAttributionError: there was no run yet, or it failed.
        """
        return self._source.attributions

    @property
    def attribution(self) -> Attribution:
        """The attribution of the last run's only image.

        Raises:
            NoAttributionError: there is none, or there are several.
        """
        source = self._source
        return only(source._rdaam_attributions, source._rdaam_why, owner="recording")

    @property
    def _source(self) -> Any:
        return self._pipe if self._kept is None else self._kept

    def _close(self) -> None:
        """Keep the last run's result, let the pipeline go."""
        kept = RDAAMPipelineMixin()
        kept._rdaam_attributions = self._pipe._rdaam_attributions
        kept._rdaam_why = self._pipe._rdaam_why
        self._kept, self._pipe = kept, None


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
    }
    return type(stock.__name__, (RDAAMPipelineMixin, stock), body)


@contextmanager
def record_attention(
    pipe: Any,
    processor: RDAAMProcessor | None = None,
    *,
    rows: Any = None,
    prompt: Texts = None,
    negative_prompt: Texts = None,
    tokenizer: Any = None,
    image_size: tuple[int, int] | None = None,
) -> Iterator[Recording | DenoiserRecording]:
    """Record a stock pipeline, a modular one, or a denoiser within a ``with`` block.

    A pipeline is made one of ours for the time of the block and is then exactly what it was, its
    processors included, also after an exception or an interrupt. Each of its calls is a run.

    Of a modular pipeline or a denoiser all calls in the block are one run, and what they do not
    tell is given here.

    Args:
        pipe: a diffusers pipeline of a supported class; a modular pipeline with a UNet and a
            guider; or a UNet.
        processor: a template with options; the default one if not given.
        rows: which rows of a denoiser's calls carry the prompt: ``"conditional"`` (all of them);
            the names of the equal parts of the batch, such as ``("unconditional",
            "conditional")``; or a function of a call's args and kwargs that returns them. A
            modular pipeline's guider tells.
        prompt, negative_prompt: the texts, one or one for each; a stock pipeline's calls tell.
        tokenizer: that made the columns; a pipeline has its own.
        image_size: height and width in pixels; 8 times the latent's if not given.

    Raises:
        UnsupportedPipelineError: the layout of this pipeline's denoiser calls is not known.
        AlreadyRecordingError: the pipeline records already.
        ProcessorError: a site has a processor that cannot be recorded.
        InputError: ``rows`` and what follows it were given for a stock pipeline, or not given for
            a denoiser.
    """
    given = Given(rows, prompt, negative_prompt, tokenizer, image_size)
    if is_denoiser(pipe):
        with record_denoiser(pipe, processor, given) as recorded:
            yield recorded
        return
    if given != Given():
        raise InputError(
            f"{type(pipe).__name__} is a pipeline: its calls tell the prompt, its class the rows. "
            "rows=, prompt=, negative_prompt=, tokenizer= and image_size= are for a denoiser."
        )
    if isinstance(pipe, RDAAMPipelineMixin):
        raise AlreadyRecordingError(
            f"This {type(pipe).__name__} records already: its outputs have an attribution. "
            "record_attention is for stock pipelines, and blocks do not nest."
        )
    family = family_of(pipe)
    denoiser = family.denoiser(pipe)
    before = remember((*family.sites(denoiser), *family.self_sites(denoiser)))
    stock, attributes = type(pipe), set(pipe.__dict__)
    pipe.__class__ = _recording_class(stock)  # type: ignore[arg-type]  # classes hash
    recording = Recording(pipe)
    try:
        pipe.set_attn_processor(processor or RDAAMProcessor())
        yield recording
    finally:
        recording._close()
        pipe.__class__ = stock
        for name in [name for name in pipe.__dict__ if name.startswith("_rdaam_")]:
            if name not in attributes:
                del pipe.__dict__[name]
        restore(before)
