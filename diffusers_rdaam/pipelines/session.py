"""Session: one call of a recording pipeline, whatever its class does around the stock call."""

from __future__ import annotations

import inspect
import threading
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.errors import (
    ImageCountWarning,
    NotRecordedWarning,
)
from diffusers_rdaam.families import Family, family_of
from diffusers_rdaam.open_vocabulary.vocabulary import texts_of_vocabulary
from diffusers_rdaam.pipelines.output import with_attributions
from diffusers_rdaam.pipelines.paused_callbacks import unrecorded
from diffusers_rdaam.pipelines.pipeline_call import (
    PipelineCall,
    as_pictures,
    copied_texts,
    count_images,
)
from diffusers_rdaam.pipelines.videos import VideoAttributions
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.recording.encodings import Encodings
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.watched_scheduler import watch

ENDED_EARLY = "The last run ended with an exception, so it has no attribution. Generate again."
# Above this, buffers are given back after each call: keeping them would cost the next pipeline's
# room, and to allocate them anew costs nothing beside a run.
KEPT_BUFFER_BYTES = 64 * 2**20


class Outcome(NamedTuple):
    """The attributions of a run, or why there are none."""

    attributions: list[Attribution] | None
    why: str | None


class Session:
    """What a pipeline's outermost call has recorded so far.

    Its class may wrap the stock call, call it several times, or have a loop of its own: the last
    stock call is what counts, and only without any the calls of the loop.

    Args:
        pipe: that is called.
        family: of its class.
        attribution_prompt: the text behind ``prompt_embeds``, where the user gave it.
        rows: the layout that the user gave; None for that of the class.
    """

    def __init__(self, pipe: Any, family: Family, attribution_prompt: Any, rows: Any) -> None:
        self.pipe = pipe
        self.family = family
        self.attribution_prompt = attribution_prompt
        self.rows = rows
        self.encodings = Encodings()
        self.recorder: Recorder | None = None
        self.run: PipelineCall | None = None
        self.outcome: Outcome | None = None
        self.guided: bool | None = None
        self._depth = 0
        # Whether the recorder is as it was made: its first run needs no new beginning.
        self._is_untouched = False
        self._thread = threading.get_ident()

    def has_call(self) -> bool:
        """True if a call of the pipeline made now is a part of this one."""
        is_paused = self.recorder is not None and self.recorder.is_paused
        return threading.get_ident() == self._thread and not is_paused

    def encode(
        self,
        encode: Any,
        signature: inspect.Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        is_stock: bool,
    ) -> Any:
        """Call a method that encodes a prompt, and note the text and the embedding."""
        if threading.get_ident() != self._thread:
            return encode(*args, **kwargs)
        try:
            # Copied before the call, which may write its template into the list of prompts.
            arguments = copied_texts(signature.bind(*args, **kwargs).arguments)
        except TypeError:
            # The method's own error says it better.
            return encode(*args, **kwargs)
        # A callback may encode a text, too, and put its embedding in the prompt's place.
        is_of_the_run = self.has_call()
        if self._depth == 0 and is_of_the_run:
            # What the stock call says; a method that overrides it may say anything to it.
            self.guided = arguments.get("do_classifier_free_guidance")
        self._depth += 1
        try:
            result = encode(*args, **kwargs)
        finally:
            self._depth -= 1
        # Whatever a class of its own returns, it is its pipeline's business.
        with suppress(Exception):
            self.encodings.note(arguments, result, is_certain=is_stock)
        if self.run is not None and is_of_the_run:
            self.run.note_encoding(arguments, is_certain=is_stock)
        return result

    def start(
        self, undo: ExitStack, arguments: dict[str, Any], vocabulary: Any, *, is_stock: bool
    ) -> None:
        """Follow the denoiser from now on; the calls of a loop of its own count until a stock one.

        Args:
            undo: gets an entry before each change.
            arguments: of the outermost call, by name.
            vocabulary: the value of ``attribution_vocabulary=``.
            is_stock: whether the outermost call is the stock one, so that no loop comes before it.
        """
        pipe = self.pipe
        texts = texts_of_vocabulary(pipe, vocabulary, arguments)
        self.recorder = recorder = Recorder(
            pipe,
            self.family,
            pipe._rdaam_next_template.options,
            pipe._rdaam_buffers,
            announce=pipe._rdaam_announce,
            vocabulary=texts,
        )
        recorder.arm(undo)
        scheduler = getattr(pipe, "scheduler", None)
        if scheduler is not None:
            watch(scheduler, recorder, undo)
        # The recorder has them, and lets go of those that do not fit this run.
        pipe._rdaam_buffers = None
        self._is_untouched = is_stock
        if not is_stock:
            self._await_own_loop(arguments)

    def _await_own_loop(self, arguments: dict[str, Any]) -> None:
        assert self.recorder is not None
        given = self.rows is not None
        family = self.family if given else self.family.with_layout(self.encodings)
        self.recorder.restart(family, waits=not given)
        self.run = PipelineCall(
            self.pipe, self.recorder, arguments, self.attribution_prompt, self.encodings
        )
        self.run.is_described = given

    def call_stock(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The stock class's own call: a run of its own, and the last one so far."""
        recorder = self.recorder
        if recorder is None:
            return call(self.pipe, *args, **kwargs)
        prompt = kwargs.pop("attribution_prompt", self.attribution_prompt)
        try:
            bound = inspect.signature(call).bind(self.pipe, *args, **kwargs)
        except TypeError:
            return call(self.pipe, *args, **kwargs)
        bound.apply_defaults()
        if not self._is_untouched:
            recorder.restart(family_of(self.pipe, self.rows))
        self._is_untouched = False
        recorder.is_open = True
        self.guided = None
        self.outcome = Outcome(None, ENDED_EARLY)
        self.run = PipelineCall(
            self.pipe, recorder, bound.arguments | kwargs, prompt, self.encodings
        )
        try:
            result = call(self.pipe, *args, **unrecorded(kwargs, recorder))
        finally:
            recorder.is_open = False
        self.outcome = self._outcome(self.run, result)
        return self._with_attributions(result)

    def call_own(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of a class's own, which may call the stock one, or be a loop of its own."""
        if self.recorder is None:
            return call(self.pipe, *args, **kwargs)
        result = call(self.pipe, *args, **unrecorded(kwargs, self.recorder))
        if self.outcome is None:
            self.recorder.is_open = False
            self.recorder.settle_waiting()
            assert self.run is not None
            self.outcome = self._outcome(self.run, result)
        elif self.outcome.attributions is not None:
            self.outcome = _of_images(self.outcome.attributions, result)
        return self._with_attributions(result)

    def _outcome(self, run: PipelineCall, result: Any) -> Outcome:
        """Read what was recorded; whatever goes wrong here, the image exists and is returned."""
        try:
            attributions, remarks = run.attributions(result), run.remarks()
        except Exception as error:
            why = f"The image was made, but not its attribution: {error}"
            warn(why, getattr(error, "warning", NotRecordedWarning))
            return Outcome(None, why)
        for category, text in remarks:
            warn(text, category)
        return Outcome(attributions, None)

    def _with_attributions(self, result: Any) -> Any:
        assert self.outcome is not None
        # return_dict=False keeps the stock tuple: whoever unpacks two values gets two.
        if isinstance(result, tuple):
            return result
        return with_attributions(result, *self.outcome)


def _of_images(attributions: list[Attribution], result: Any) -> Outcome:
    """The attributions of a stock call, where the class's own call returns as many images."""
    count = count_images(result)
    if isinstance(attributions, VideoAttributions):
        frames = sum(len(video) for video in attributions.videos)
        if count in (None, frames):
            return Outcome(attributions, None)
    elif count in (None, len(attributions)):
        return Outcome(_with_pictures(attributions, result), None)
    why = (
        f"The call returned {count} images, and its last stock run made {len(attributions)}: which "
        "attribution belongs to which image is not known. Generate one batch a call, or record "
        "each stock call with record_attention."
    )
    warn(why, ImageCountWarning)
    return Outcome(None, why)


def _with_pictures(attributions: list[Attribution], result: Any) -> list[Attribution]:
    """The attributions with the images that a class has decoded itself from the stock latents."""
    if any(attribution.image is not None for attribution in attributions):
        return attributions
    pictures = as_pictures(result)
    sizes = [attribution.image_size[::-1] for attribution in attributions]
    if [picture.size for picture in pictures] != sizes:
        return attributions
    return [one.with_image(picture) for one, picture in zip(attributions, pictures, strict=True)]


def recorded_call(
    pipe: Any, call: Any, is_stock: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The outermost call of a recording pipeline."""
    attribution_prompt = kwargs.pop("attribution_prompt", None)
    vocabulary = kwargs.pop("attribution_vocabulary", None)
    try:
        bound = inspect.signature(call).bind(pipe, *args, **kwargs)
    except TypeError:
        # The stock call's own error says it better.
        return call(pipe, *args, **kwargs)
    pipe._rdaam_refuse_unknown(call, kwargs)
    bound.apply_defaults()
    rows, prompt = pipe._rdaam_rows, pipe._rdaam_prompt
    family = family_of(pipe, rows)
    session = Session(pipe, family, attribution_prompt or prompt, rows)
    pipe._rdaam_attributions, pipe._rdaam_why = None, ENDED_EARLY
    undo = ExitStack()
    with undo:
        try:
            undo.callback(pipe.__dict__.pop, "_rdaam_session", None)
            pipe._rdaam_session = session
            why = pipe._rdaam_prepare(family, undo)
            if why is None:
                # Somebody's own __call__ may take **kwargs, which are not bound by name.
                session.start(undo, bound.arguments | kwargs, vocabulary, is_stock=is_stock)
            elif pipe._rdaam_next_template is not None:
                warn(f"This run is not recorded. {why}", why.warning)
            # Not in a ``try`` of its own: no handler covers that line of bytecode.
            undo.callback(pipe._rdaam_take_buffers, session.recorder)
            run = session.call_stock if is_stock else session.call_own
            result = run(call, args, kwargs)
        finally:
            undo.close()
    if why is not None:
        session.outcome = Outcome(None, str(why))
        result = result if isinstance(result, tuple) else with_attributions(result, None, str(why))
    assert session.outcome is not None
    pipe._rdaam_attributions, pipe._rdaam_why = session.outcome
    if pipe._rdaam_runs is not None:
        pipe._rdaam_runs.append(session.outcome.attributions)
    return result
