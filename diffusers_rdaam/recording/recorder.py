"""Recorder: one armed run, from the first denoiser call to the maps."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diffusers_rdaam.attention.observer import Observer, ObserverGroup, without_frames
from diffusers_rdaam.attention.options import RecordingOptions
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import (
    ForeignThreadWarning,
    LayoutUnknownWarning,
    NoAttributionError,
    NotRecordedWarning,
    PromptSwitchedWarning,
    RDAAMError,
    RecordingFailedWarning,
)
from diffusers_rdaam.families import Branch, DenoiserCall, Family, RowsOfBranches
from diffusers_rdaam.recording.armed import claim
from diffusers_rdaam.recording.buffers.accumulator import AccumulatorShape, HeatMapAccumulator
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps, StepAccumulators
from diffusers_rdaam.recording.encodings import TextTracker
from diffusers_rdaam.recording.failures import check_numbers, empty_error, lost_error, silent_error
from diffusers_rdaam.recording.image_record import ImageRecord
from diffusers_rdaam.recording.installation import observed_now
from diffusers_rdaam.recording.memory.shape import expected_calls
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.concepts import Concept, ConceptRecord
from diffusers_rdaam.recording.records.queries import QueriesRecord
from diffusers_rdaam.recording.records.run_record import RunRecord
from diffusers_rdaam.recording.records.self_attention import SelfAttentionRecord
from diffusers_rdaam.recording.records.text import TextRecord
from diffusers_rdaam.recording.records.vocabulary import EncodedText, VocabularyRecord
from diffusers_rdaam.recording.unconfirmed import MOST_UNCONFIRMED, Unconfirmed, Waiting


@dataclass
class Buffers:
    """Buffers that a run leaves to the next one of the same pipeline."""

    text: dict[Branch, StepAccumulators] = field(default_factory=dict)
    self_attention: list[HeatMapAccumulator] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes on the denoiser's device."""
        text = sum(steps.nbytes for steps in self.text.values())
        return text + sum(buffer.nbytes for buffer in self.self_attention)


class Recorder:
    """Arms the processors of a denoiser, follows its calls, and reads the maps.

    ``with recorder: …`` records; on leaving, also by an exception, the processors are unbound from
    the buffers and the hooks are gone. One run at a time may record a denoiser.

    Args:
        pipe: the pipeline, whose properties decide the layout of a call; read at every call.
        family: the pipeline's.
        options: the run's; processors that record must be installed.
        buffers: an earlier run's; reused where they have the same shape.
        announce: a function that reports the memory cost before the first step.
        vocabulary: other texts whose maps are recorded with the prompt's, or concepts.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        options: RecordingOptions,
        buffers: Buffers | None = None,
        announce: Callable[[str], None] | None = None,
        vocabulary: Sequence[EncodedText] | Sequence[Concept] = (),
    ) -> None:
        self.pipe = pipe
        self.options = options
        self.announce = announce
        self.denoiser = family.denoiser(pipe)
        self.denoisers = family.denoisers(pipe)
        # Whether calls are recorded now; a session switches it off outside of the stock call.
        self.is_open = True
        # What is put before the names of the sites of the denoiser that is called, of several.
        self.prefix = ""
        self._vocabulary = vocabulary
        self._bound: set[RecordingProcessor] = set()
        self._met: set[RecordingProcessor] = set()
        self._undo: ExitStack | None = None
        self._settled = False
        self._lost: NoAttributionError | None = None
        self._paused = False
        self._thread: int | None = None
        self._begin_afresh(family, buffers or Buffers(), waits=False)

    def _begin_afresh(self, family: Family, buffers: Buffers, *, waits: bool) -> None:
        pipe, options = self.pipe, self.options
        self.family = family
        self.text = TextRecord(pipe, family, options, buffers.text)
        self.vocabulary = _vocabulary_record(pipe, family, options, self._vocabulary)
        self.self_attention = (
            SelfAttentionRecord(pipe, family, options, buffers.self_attention)
            if options.self_attention
            else None
        )
        self.queries = QueriesRecord(pipe, family, options) if options.queries else None
        others = (self.vocabulary, self.self_attention, self.queries)
        # In the order in which they take their share of the budget; the text's target is the first
        # observer of its sites, and computes their attention.
        self._records: tuple[RunRecord, ...] = (
            self.text,
            *(one for one in others if one is not None),
        )
        by_name = {site.name: site for record in self._records for site in record.sites}
        self._armed_sites = tuple(by_name.values())
        self.progress = Progress()
        self.texts = TextTracker()
        self.failure: NoAttributionError | None = None
        # Calls that were not recorded: with another prompt, and from another thread.
        self.skipped = 0
        self.foreign_calls = 0
        # Calls whose rows no layout described, and whether the denoiser was replaced by another.
        self.unread = 0
        self.was_replaced = False
        # A video's number of frames that are rows of a call; None for others.
        self.row_frames: int | None = None
        # What is put before the names of the sites of each denoiser that had rows of the prompt.
        self._called: set[str] = set()
        # The timestep that the scheduler was given last, and the calls that were recorded by then.
        self._stepped_at: tuple[Any, int] = None, 0
        self._waiting = Waiting() if waits else None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The text sites."""
        return self.text.sites

    @property
    def attention(self) -> str:
        """``"joint"`` where the text sites' softmax runs over the image too, else ``"cross"``."""
        return "joint" if any(site.kind == "joint" for site in self.sites) else "cross"

    @property
    def calls(self) -> int:
        """Recorded denoiser calls with rows of the prompt."""
        return self.progress.calls

    @property
    def shape(self) -> AccumulatorShape | None:
        """The shape of the text's buffers; None before the first call."""
        return self.text.shape

    @property
    def grid(self) -> tuple[int, ...] | None:
        """Size of the denoiser's latent grid; None before the first call."""
        return self.text.grid

    @property
    def buffers(self) -> Buffers:
        """The buffers, for the next run."""
        return Buffers(
            self.text.buffers, [] if self.self_attention is None else self.self_attention.buffers
        )

    @property
    def thread(self) -> int | None:
        """The thread whose calls are recorded; None while nothing is."""
        return self._thread

    @property
    def is_paused(self) -> bool:
        """Whether a callback is running, whose calls do not belong to the run."""
        return self._paused

    def arm(self, undo: ExitStack) -> None:
        """Follow the denoiser's calls from now on.

        Args:
            undo: gets an entry before each change; closing it ends the run, also after an
                interrupt at any line. Its entries are methods of torch and of Python and not of
                this package, which a second interrupt could stop halfway.

        Raises:
            AlreadyRecordingError: another run has the denoiser.
        """
        for denoiser in self.denoisers.values():
            claim(denoiser, self, undo)
        self._thread = threading.get_ident()
        self._undo = undo
        # Disarmed between calls: gradient checkpointing calls the sites again on the way back.
        for prefix, entry in entries_of(self.family, self.pipe).items():
            hook = _Hook(self, prefix, entry)
            undo.callback(entry.register_forward_pre_hook(hook.before, with_kwargs=True).remove)
            undo.callback(entry.register_forward_hook(hook.after, always_call=True).remove)

    def __enter__(self) -> Recorder:
        stack = ExitStack()
        try:
            self.arm(stack)
        except BaseException:
            stack.close()
            raise
        self._entered = stack
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()

    def restart(self, family: Family, *, waits: bool = False) -> None:
        """Forget what was recorded; a new run begins with the next call.

        Args:
            family: the one that reads its calls.
            waits: whether each call is confirmed by a step of the scheduler, because it is not
                known which calls make the image; see :mod:`unconfirmed`.
        """
        self._disarm()
        self._begin_afresh(family, self.buffers, waits=waits)

    @torch.compiler.disable
    def _before_call(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """The denoiser is about to be called."""
        if self.failure is not None or not self.is_open:
            return
        if threading.get_ident() != self._thread:
            self._on_foreign_thread_call()
            return
        if self._paused:
            return
        try:
            call = self.family.read_call(self.pipe, args, kwargs)
            if call is None:
                self.unread += 1
            else:
                self._record(call)
                if Branch.CONDITIONAL in call.branches:
                    self._called.add(self.prefix)
        except NoAttributionError as error:
            self.fail(error)
        except (RDAAMError, Warning) as error:
            # Before the first step an error is raised, and a warning where the user made it one.
            if self.calls == 0 and not self.skipped and self._waiting is None:
                raise
            # Steps have been spent: the image is worth more than its attribution.
            self.fail(error)
        except Exception as error:
            self.fail(error)

    @torch.compiler.disable
    def _after_call(self, *unused: object) -> None:
        """The denoiser has returned, or raised."""
        if threading.get_ident() != self._thread:
            return
        error = self._disarm()
        if error is not None and self.failure is None:
            self.fail(error)
        if self.failure is not None:
            return
        try:
            for record in self._records:
                record.after_call()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Stop recording, and keep the reason; the image is made all the same."""
        if isinstance(error, NoAttributionError):
            self.failure = error
        elif isinstance(error, RDAAMError):
            self.failure = NoAttributionError(str(error), warning=RecordingFailedWarning)
        else:
            self.failure = NoAttributionError(
                f"Recording stopped at denoiser call {self.calls + self.skipped} with "
                f"{type(error).__name__}: {error}. {_cure(error)}",
                warning=RecordingFailedWarning,
            )
        without_frames(self.failure)
        self._disarm()
        # The run may have failed for want of memory, and nothing that it recorded will be read.
        for record in self._records:
            record.release()

    def _on_foreign_thread_call(self) -> None:
        """Count a call of another thread, which processors do not record unless compiled."""
        self.foreign_calls += 1
        compiled = getattr(self.denoiser, "_compiled_call_impl", None) is not None
        called = getattr(self.pipe, self.family.denoiser_name, self.denoiser)
        if compiled or called is not self.denoiser:
            self.failure = NoAttributionError(
                f"Another thread has called the compiled {type(self.denoiser).__name__} during "
                "the run, which it shares. Give each thread a pipeline with its own denoiser.",
                warning=ForeignThreadWarning,
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in the block, such as a callback's calls of the denoiser."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _record(self, call: DenoiserCall) -> None:
        """Arm every site for this call."""
        recorded = [Branch.CONDITIONAL]
        if self.options.keep_negative:
            recorded.append(Branch.UNCONDITIONAL)
        rows: RowsOfBranches = {
            branch: call.branches[branch] for branch in recorded if branch in call.branches
        }
        if not rows:
            return
        images = {stop - start for start, stop in rows.values()}
        if self.shape is not None:
            self.text.check(call, images, self.progress)
        text = self._text_of(call)
        waiting = self._waiting
        if waiting is None and self._is_of_another_prompt(text):
            self.skipped += 1
            return
        if waiting is not None and not waiting.has_stepped and waiting.is_of_another_step(call):
            self._confirm(waiting.chosen_by_timestep())
        if self.shape is None:
            self._begin(call, max(images))
            self.text.check(call, images, self.progress)
        if waiting is None:
            self._arm(rows, call)
            self.progress.advance(rows, call.timestep, text)
            return
        number = waiting.next_number()
        if number is None:
            raise NoAttributionError(
                f"{type(self.pipe).__name__} has a loop of its own that calls the denoiser more "
                f"than {MOST_UNCONFIRMED} times with the prompt between two steps of its "
                f"scheduler, and which of the calls makes the image is not known. {_GIVE_ROWS}",
                warning=LayoutUnknownWarning,
            )
        self._arm(rows, call, scratch=number)
        waiting.calls.append(Unconfirmed(number, call, rows, text))

    def _is_of_another_prompt(self, text: int) -> bool:
        """Whether a call has another prompt: its columns would be added to those of other words."""
        first = self.progress.texts[0] if self.progress.texts else text
        return text != first and "steps" not in self.options.keep

    @property
    def first_text(self) -> torch.Tensor | None:
        """The prompt's embedding, a row for each image; None before the first call."""
        return self.texts.rows_of(self.progress.texts[0]) if self.progress.texts else None

    def _text_of(self, call: DenoiserCall) -> int:
        if call.text is None or call.states is None or not call.images:
            return 0
        return self.texts.index_of(call.states, call.text)

    def before_step(self, latents: Any, timestep: Any) -> None:
        """Choose the call that makes the image, because the scheduler is about to step.

        Cosmos asks its scheduler twice in one step: for the clean latents, then for the next ones.
        Both times it gives the very same tensor as the timestep, with no call in between.
        """
        if not self.is_open or self._paused or threading.get_ident() != self._thread:
            return
        try:
            before, calls = self._stepped_at
            again = isinstance(timestep, torch.Tensor) and timestep is before
            if not again or calls != self.calls:
                self.progress.steps += 1
            if self.family.denoiser(self.pipe) is not self.denoiser:
                self.was_replaced = True
            if self._waiting is not None and self.failure is None:
                self._choose(self._waiting, latents)
            self._stepped_at = timestep, self.calls
        except Exception as error:
            self.fail(error)

    def _choose(self, waiting: Waiting, latents: Any) -> None:
        if not waiting.has_stepped and self.calls:
            # The calls before the first step belong to another loop, such as an inversion.
            calls = waiting.calls
            self._begin_afresh_in_place()
            waiting.calls = calls
        waiting.has_stepped = True
        if waiting.calls:
            self._confirm(waiting.chosen_by(latents))

    def _begin_afresh_in_place(self) -> None:
        for record in self._records:
            record.zero_()
        self.progress = Progress(steps=self.progress.steps)

    def on_new_timesteps(self) -> None:
        """Begin anew, because a loop begins: the last loop of a run makes the image."""
        if self._waiting is None or not self.is_open or self._paused:
            return
        try:
            self.restart(self.family, waits=True)
        except Exception as error:
            self.fail(error)

    def settle_waiting(self) -> None:
        """Decide at the end of the run whether the calls that still wait belong to it."""
        waiting = self._waiting
        if waiting is None or self.failure is not None or not waiting.calls:
            return
        try:
            if waiting.has_stepped:
                self._drop(waiting.calls)
            else:
                self._confirm(waiting.chosen_by_timestep())
        except Exception as error:
            self.fail(error)

    def _confirm(self, chosen: Unconfirmed | None) -> None:
        assert self._waiting is not None
        if chosen is None:
            raise NoAttributionError(
                f"{type(self.pipe).__name__} has a loop of its own that calls the denoiser "
                f"{len(self._waiting.calls)} times with the prompt in one step, and which of the "
                f"calls makes the image is not known. {_GIVE_ROWS}",
                warning=LayoutUnknownWarning,
            )
        if self._is_of_another_prompt(chosen.text):
            self.skipped += 1
            self._drop(self._waiting.calls)
            return
        for record in self._records:
            record.confirm(chosen.number, chosen.rows, self.progress)
        self.progress.advance(chosen.rows, chosen.call.timestep, chosen.text)
        self._drop(self._waiting.calls)

    def _drop(self, calls: list[Unconfirmed]) -> None:
        for one in calls:
            for record in self._records:
                record.forget(one.number)
        assert self._waiting is not None
        self._waiting.calls = []

    def _begin(self, call: DenoiserCall, images: int) -> None:
        if self._waiting is not None and self.queries is not None:
            raise NoAttributionError(
                f"keep='queries' needs to know which calls of the denoiser make the image, and "
                f"{type(self.pipe).__name__} has a loop of its own. {_GIVE_ROWS}",
                warning=LayoutUnknownWarning,
            )
        self.row_frames = call.frames if call.is_video else None
        calls = expected_calls(self.pipe)
        costs, spent = [], 0
        for record in self._records:
            costs.append(record.begin(call, images, calls, spent))
            spent += record.nbytes
        # Only when all records are within the budget.
        if self.announce is not None:
            for cost in costs:
                if cost is not None:
                    self.announce(cost)

    def _arm(self, rows: RowsOfBranches, call: DenoiserCall, *, scratch: int | None = None) -> None:
        of_site: dict[str, tuple[Observer, ...]] = {}
        for record in self._records:
            targets = record.targets(rows, self.progress, call=call, scratch=scratch)
            for name, target in targets.items():
                of_site[name] = (*of_site.get(name, ()), target)
        for site in self._armed_sites:
            # Perturbed-attention guidance puts processors on its layers after the run has begun.
            processor = observed_now(site, self._undo)
            if isinstance(processor, RecordingProcessor) and site.name in of_site:
                observers = of_site[site.name]
                target = observers[0] if len(observers) == 1 else ObserverGroup(observers)
                target.failure = None
                if processor not in self._met and self._undo is not None:
                    # Not by way of the site: a callback may take a processor away for a while.
                    self._undo.callback(processor.__dict__.update, target=None)
                    self._met.add(processor)
                self._bound.add(processor)
                processor.arm(target, self._thread)

    def _disarm(self) -> Exception | None:
        """Unbind the processors from the buffers; return an exception that an observer noted."""
        error = None
        for processor in self._bound:
            target = processor.disarm()
            if target is not None and error is None:
                error = target.failure
        self._bound.clear()
        return error

    def read(self) -> list[ImageRecord]:
        """The records of all images, in order, also in the middle of a run.

        Raises:
            NoAttributionError: the run did not call the denoiser or changed its input; a site lost
                its processor during the run, or recorded nothing; the maps are not finite.
        """
        self._check()
        text = self._read_text(Branch.CONDITIONAL)
        negative = self._read_text(Branch.UNCONDITIONAL) if self.progress.negative_calls else None
        self_attention = None if self.self_attention is None else self.self_attention.read()
        vocabulary = None if self.vocabulary is None else self.vocabulary.read()
        queries = None if self.queries is None else self.queries.read(Branch.CONDITIONAL)
        against = None if self.queries is None else self.queries.read(Branch.UNCONDITIONAL)
        return [
            ImageRecord(
                text=maps,
                negative=None if negative is None else negative[index],
                self_grids=() if self_attention is None else self_attention[index],
                vocabulary=() if vocabulary is None else tuple(vocabulary[index]),
                queries=None if queries is None else queries[index],
                negative_queries=None if against is None else against[index],
            )
            for index, maps in enumerate(text)
        ]

    def _read_text(self, branch: Branch) -> list[ImageMaps]:
        """The maps of a branch's text for each image, checked to be probabilities."""
        maps = self.text.read(branch, self.progress)
        check_numbers(maps, self.options)
        return maps

    def settle(self) -> None:
        """Check now whether sites lost their processors; later changes do not matter."""
        self._lost = lost_error(self.sites)
        self._settled = True

    def incomplete(self) -> tuple[type[NotRecordedWarning], str] | None:
        """The warning about calls that are not in the maps, which are right; None if all are."""
        if self.skipped:
            return PromptSwitchedWarning, (
                f"Another text embedding was put in the prompt's place during the run. The maps "
                f"are those of the {self.calls} of {self.calls + self.skipped} denoiser calls with "
                "the first prompt. Record with RDAAMProcessor(keep='steps') to have each step with "
                "its own words."
            )
        if len(set(self.progress.texts)) > 1:
            return PromptSwitchedWarning, (
                "Another text embedding was put in the prompt's place during the run. Each step of "
                "attribution.steps has the words of its own prompt; the attribution as a whole is "
                "that of the steps with the first prompt."
            )
        return None

    def _check(self) -> None:
        if self.failure is not None:
            raise NoAttributionError(str(self.failure), warning=self.failure.warning)
        error = None
        if self._waiting is not None and not self.calls and self.unread:
            error = NoAttributionError(
                f"{type(self.pipe).__name__} has a loop of its own, and in none of its "
                f"{self.unread} denoiser calls a row carries an embedding that its encode_prompt "
                f"returned for the prompt, side by side with the others. {_GIVE_ROWS}",
                warning=LayoutUnknownWarning,
            )
        error = error or empty_error(self.progress, self.foreign_calls) or self.text.misfit()
        error = error or (self._lost if self._settled else lost_error(self.sites))
        error = error or silent_error(self.text, self.progress, self._called or {""})
        if error is not None:
            raise error


def _vocabulary_record(
    pipe: Any,
    family: Family,
    options: RecordingOptions,
    texts: Sequence[EncodedText] | Sequence[Concept],
) -> VocabularyRecord | ConceptRecord | None:
    """The record of the texts that are not the prompt; None without any."""
    concepts = [one for one in texts if isinstance(one, Concept)]
    if concepts:
        return ConceptRecord(pipe, family, options, concepts)
    others = [one for one in texts if isinstance(one, EncodedText)]
    return VocabularyRecord(pipe, family, options, others) if others else None


def entries_of(family: Family, pipe: Any) -> Mapping[str, nn.Module]:
    """The modules that the pipeline calls: each denoiser, or a wrapper of it."""
    if hasattr(family, "entries"):
        return family.entries(pipe)
    return {"": getattr(family, "entry", family.denoiser)(pipe)}


class _Hook:
    """A denoiser's hooks, with weak references to the run; a copy of the denoiser has none."""

    def __init__(self, recorder: Recorder, prefix: str, entry: nn.Module) -> None:
        self._recorder = weakref.ref(recorder)
        self._module = weakref.ref(entry)
        self._prefix = prefix

    def _living(self, module: nn.Module) -> Recorder | None:
        return self._recorder() if self._module() is module else None

    @torch.compiler.disable
    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorder = self._living(module)
        if recorder is not None:
            recorder.prefix = self._prefix
            recorder._before_call(module, args, kwargs)

    @torch.compiler.disable
    def after(self, module: nn.Module, *unused: object) -> None:
        recorder = self._living(module)
        if recorder is not None:
            recorder._after_call()

    def __reduce__(self) -> Any:
        # A denoiser that is copied in the middle of a run has hooks; the copy's do nothing.
        return (_dead_hook, ())


def _dead_hook() -> _Hook:
    hook = _Hook.__new__(_Hook)
    hook._recorder = hook._module = lambda: None  # type: ignore[assignment]  # a dead reference
    hook._prefix = ""
    return hook


_GIVE_ROWS = (
    "Say which calls and rows are the prompt's with record_attention(pipe, rows=…, prompt=…)."
)


def _cure(error: Exception) -> str:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "Make smaller or fewer images at a time, or keep less."
    return "The image was made without recording from there on."
