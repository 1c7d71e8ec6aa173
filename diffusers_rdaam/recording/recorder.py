"""Recorder: one armed run, from the first denoiser call to the maps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import NoAttributionError, RDAAMError
from diffusers_rdaam.recording.accumulator import AccumulatorShape, HeatMapAccumulator
from diffusers_rdaam.recording.armed import claim
from diffusers_rdaam.recording.budget import price
from diffusers_rdaam.recording.expected import expected_calls
from diffusers_rdaam.recording.families import DenoiserCall, Family
from diffusers_rdaam.recording.frames import Frames, ImageMaps
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.progress import CONDITIONAL, NEGATIVE, Progress, RowsOf
from diffusers_rdaam.recording.queries import QueryRecord
from diffusers_rdaam.recording.self_maps import SelfMaps
from diffusers_rdaam.recording.sites import Site
from diffusers_rdaam.recording.target import Bound, Observer, Several
from diffusers_rdaam.recording.text_maps import TextMaps
from diffusers_rdaam.recording.verdict import empty_text, lost_text, silent_text
from diffusers_rdaam.recording.vocabulary import (
    EncodedText,
    VocabularyEntry,
    VocabularyMaps,
)


@dataclass
class Buffers:
    """What a run leaves to the next one of the same pipeline."""

    text: dict[str, Frames] = field(default_factory=dict)
    own: list[HeatMapAccumulator] = field(default_factory=list)


class Recorder:
    """Arms the processors of a denoiser, follows its calls, and reads the maps.

    ``with recorder: …`` records; on leaving, also by an exception, the processors are unbound from
    the buffers and the hooks are gone. One run at a time may record a denoiser.

    Args:
        pipe: whose properties tell the layout of a call; read at every call.
        family: of the pipeline.
        template: the options; its children must be installed.
        buffers: of an earlier run; used again where they have the same shape.
        announce: is told the price of what is kept apart, before the first step.
        vocabulary: other texts whose maps are recorded with the prompt's.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        template: RDAAMProcessor,
        buffers: Buffers | None = None,
        announce: Callable[[str], None] | None = None,
        vocabulary: Sequence[EncodedText] = (),
    ) -> None:
        self.pipe = pipe
        self.family = family
        self.template = template
        self.announce = announce
        self.denoiser = family.denoiser(pipe)
        left = buffers or Buffers()
        self.text = TextMaps(pipe, family, template, left.text)
        self.own = SelfMaps(pipe, family, template, left.own) if template.self_attention else None
        self.queries = QueryRecord(pipe, family, template) if template.queries else None
        self.vocabulary = VocabularyMaps(pipe, family, template, vocabulary) if vocabulary else None
        self.progress = Progress()
        self.failure: Exception | None = None
        self._bound: set[Bound] = set()
        self._handles: list[Any] = []
        self._claim = ExitStack()
        self._settled = False
        self._lost: str | None = None
        self._paused = False
        self._thread: int | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The text sites."""
        return self.text.sites

    @property
    def calls(self) -> int:
        """Recorded denoiser calls with rows of the prompt."""
        return self.progress.calls

    @property
    def shape(self) -> AccumulatorShape | None:
        """Of the text maps; None before the first call."""
        return self.text.shape

    @property
    def latent_size(self) -> tuple[int, int] | None:
        """Height and width of the latent; None before the first call."""
        return self.text.latent_size

    @property
    def buffers(self) -> Buffers:
        """For the next run."""
        return Buffers(self.text.buffers, [] if self.own is None else self.own.buffers)

    def __enter__(self) -> Recorder:
        self._thread = threading.get_ident()
        claim(self.denoiser, self, self._claim)
        # Disarmed between calls: gradient checkpointing calls the sites again on the way back.
        self._handles = [
            self.denoiser.register_forward_pre_hook(self._before_call, with_kwargs=True),
            self.denoiser.register_forward_hook(self._after_call, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        self._disarm()
        for handle in self._handles:
            handle.remove()
        self._claim.close()

    @torch.compiler.disable
    def _before_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.failure is not None:
            return
        if threading.get_ident() != self._thread:
            self._meet_a_stranger()
            return
        if self._paused:
            return
        try:
            call = self.family.read_call(self.pipe, args, kwargs)
            if call is not None:
                self._record(call)
        except RDAAMError as error:
            if self.calls == 0:
                raise
            # Steps have been spent: the image is worth more than its attribution.
            self.failure = error

    @torch.compiler.disable
    def _after_call(self, *unused: object) -> None:
        if threading.get_ident() != self._thread:
            return
        self._disarm()
        if self.queries is None or self.failure is not None:
            return
        try:
            self.queries.flush()
        except RDAAMError as error:
            self.failure = error

    def _meet_a_stranger(self) -> None:
        """Another thread calls the denoiser; processors tell them apart, unless compiled."""
        compiled = getattr(self.denoiser, "_compiled_call_impl", None) is not None
        if compiled or getattr(self.pipe, "unet", self.denoiser) is not self.denoiser:
            self.failure = NoAttributionError(
                f"Another thread has called the compiled {type(self.denoiser).__name__} during "
                "the run, which it shares. Give each thread a pipeline with a denoiser of its own."
            )

    def __getstate__(self) -> dict[str, Any]:
        # A denoiser that is copied in the middle of a run has hooks; the copy's do nothing.
        over = NoAttributionError("This is a copy, made during a run.")
        return {"failure": over, "_bound": set(), "_thread": None, "_paused": True}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in the block, such as what a callback asks of the denoiser."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _record(self, call: DenoiserCall) -> None:
        """Point every site to the buffers of this call."""
        rows: RowsOf = {CONDITIONAL: (call.start, call.stop)}
        if self.template.keep_negative:
            rows[NEGATIVE] = call.negative or (0, 0)
        rows = {branch: part for branch, part in rows.items() if part[1] > part[0]}
        if not rows:
            return
        images = {stop - start for start, stop in rows.values()}
        if self.shape is None:
            self._begin(call, max(images))
        self.text.check(call, images, self.progress)
        self._arm(rows)
        self.progress.advance(rows, call.timestep)

    def _begin(self, call: DenoiserCall, images: int) -> None:
        calls = expected_calls(self.pipe)
        told = [self.text.begin(call, images, calls)]
        assert self.shape is not None
        spent = price(self.template, self.shape, len(self.text.buffers[CONDITIONAL].accumulators))
        for record in (self.vocabulary, self.own, self.queries):
            if record is not None:
                told.append(record.begin(call, images, calls, spent))
                spent += record.nbytes
        if self.announce is not None:
            for text in told:
                if text is not None:
                    self.announce(text)

    def _arm(self, rows: RowsOf) -> None:
        of_site: dict[str, tuple[Observer, ...]] = {}
        for targets in self._targets(rows):
            for name, target in targets.items():
                of_site[name] = (*of_site.get(name, ()), target)
        for site in (*self.sites, *(self.own.sites if self.own is not None else ())):
            if isinstance(site.processor, Bound) and site.name in of_site:
                observers = of_site[site.name]
                target = observers[0] if len(observers) == 1 else Several(observers)
                target.strict = self.calls == 0
                site.processor.arm(target, self._thread)
                self._bound.add(site.processor)

    def _targets(self, rows: RowsOf) -> Iterator[Mapping[str, Observer]]:
        yield self.text.targets(rows, self.progress)
        if self.own is not None:
            yield self.own.targets(rows)
        if self.vocabulary is not None:
            yield self.vocabulary.targets(rows)
        if self.queries is not None:
            yield self.queries.targets(rows, self.progress)

    def _disarm(self) -> None:
        # Not by way of the sites: a callback may have taken a processor away, to put it back later.
        while self._bound:
            self._bound.pop().target = None

    def read(self) -> list[ImageMaps]:
        """What was recorded of each image, also in the middle of a run.

        Raises:
            NoAttributionError: the run did not call the denoiser or changed its input; a site lost
                its processor during the run, or recorded nothing.
        """
        self._check()
        return self.text.read(CONDITIONAL, self.progress)

    def read_negative(self) -> list[ImageMaps] | None:
        """The same of the negative prompt; None where it is not kept or was not there.

        Its steps are those of the prompt; at those without guidance it has no additions.
        """
        if self.progress.negative_calls == 0:
            return None
        return self.text.read(NEGATIVE, self.progress)

    def read_own(self) -> list[tuple[SelfGrid, ...]] | None:
        """Each image's self-attention; None where it is not kept."""
        return None if self.own is None else self.own.read()

    def read_queries(self, branch: str = CONDITIONAL) -> list[Queries] | None:
        """Each image's queries; None where they are not kept."""
        return None if self.queries is None else self.queries.read(branch)

    def read_vocabulary(self) -> list[list[VocabularyEntry]] | None:
        """Each image's maps of the other texts, in their order; None where there are none."""
        return None if self.vocabulary is None else self.vocabulary.read()

    def settle(self) -> None:
        """Look for lost processors now; what is installed later does not matter any more."""
        self._lost = lost_text(self.sites)
        self._settled = True

    def _check(self) -> None:
        if self.failure is not None:
            raise NoAttributionError(str(self.failure)) from self.failure
        reason = empty_text(self.progress) or self.text.misfit()
        reason = reason or (self._lost if self._settled else lost_text(self.sites))
        reason = reason or silent_text(self.text, self.progress)
        if reason is not None:
            raise NoAttributionError(reason)
