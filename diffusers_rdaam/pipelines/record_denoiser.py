"""Record a denoiser whose calls no pipeline class describes: a user's loop, a modular pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from torch import nn

from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import (
    ForeignThreadWarning,
    InputError,
    UncheckedTextWarning,
)
from diffusers_rdaam.families import (
    Branch,
    DenoiserCall,
    family_of_module,
    self_attention_sites_of,
    sites_of,
)
from diffusers_rdaam.families.registry import has_denoiser
from diffusers_rdaam.pipelines.assemble import ImageContext, assemble
from diffusers_rdaam.pipelines.image_columns import image_columns, unknown_columns
from diffusers_rdaam.pipelines.modular import ModularParts, is_modular, modular_layout
from diffusers_rdaam.pipelines.output import only
from diffusers_rdaam.pipelines.videos import as_videos
from diffusers_rdaam.recording.announce import print_line, warn
from diffusers_rdaam.recording.chosen_columns import ChosenColumns
from diffusers_rdaam.recording.installation import install_for_run
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.tokens.alignment import align
from diffusers_rdaam.tokens.chatglm import is_chatglm
from diffusers_rdaam.tokens.column_layouts import is_ambiguous, tokenized
from diffusers_rdaam.tokens.encoder_columns import Source
from diffusers_rdaam.tokens.sources.columns import Reader
from diffusers_rdaam.tokens.sources.plain import plain

Texts = str | Sequence[str] | None


@dataclass(frozen=True)
class CallContext:
    """What a denoiser's calls do not say.

    Args:
        rows: the layout of their rows.
        prompt, negative_prompt: the texts, one or one for each.
        tokenizer: that made the columns.
        image_size: height and width in pixels; those that the latent is decoded to if not given.
    """

    rows: Any = None
    prompt: Texts = None
    negative_prompt: Texts = None
    tokenizer: Any = None
    image_size: tuple[int, int] | None = None


class DenoiserRecording:
    """The calls of a denoiser inside ``with record_attention(unet, …) as recording``."""

    def __init__(self, recorder: Recorder, context: CallContext) -> None:
        self._recorder = recorder
        self._context = context
        self._warned = False
        recorder.text.chooser = self._choose_columns

    def _choose_columns(self, call: DenoiserCall, branch: Branch) -> list[ChosenColumns]:
        """The columns of each image of a branch, where a transformer's columns are chosen."""
        recorder, context = self._recorder, self._context
        arguments = {"prompt": context.prompt, "negative_prompt": context.negative_prompt}
        pipe: Any = recorder.pipe
        source: str | Source = recorder.family.tokens
        if isinstance(pipe, nn.Module):
            # No pipeline says which template the text was put in: it is read as it is.
            pipe, source = SimpleNamespace(tokenizer=context.tokenizer), plain(Reader("text"))
        elif is_modular(pipe):
            arguments = {**pipe.default_call_parameters, **arguments}
            pipe = ModularParts(pipe)
        unknown = context.tokenizer is None or (
            branch is Branch.UNCONDITIONAL and context.negative_prompt is None
        )
        if unknown:
            start, stop = call.branches[branch]
            return [unknown_columns(call.length_of(row)) for row in range(start, stop)]
        columns = recorder.options.columns
        return image_columns(pipe, source, arguments, call, branch, columns=columns)

    @property
    def attributions(self) -> list[Attribution]:
        """One an image or a video, without the images: ``attribution.with_image(image)`` adds one.

        In the block they are what was recorded so far.

        Raises:
            NoAttributionError: the denoiser was not called, or recording it failed.
            InputError: the prompts do not fit the rows or the columns.
        """
        records = self._recorder.read()
        recorder = self._recorder
        assert recorder.grid is not None
        size = self._context.image_size or recorder.family.image_size(recorder.pipe, recorder.grid)
        prompts = recorder.text.prompts(Branch.CONDITIONAL)
        if prompts is None:
            prompts = self._prompts(self._context.prompt, len(records))
        against = recorder.text.prompts(Branch.UNCONDITIONAL)
        if against is None:
            against = self._prompts(self._context.negative_prompt, len(records))
        contexts = [
            ImageContext(
                prompt=prompts[index],
                size=size,
                run={
                    "denoiser": type(recorder.denoiser).__name__,
                    "image_index": index,
                    "denoiser_calls": recorder.calls,
                    "attention": recorder.attention,
                },
                negative_prompt=against[index],
            )
            for index in range(len(records))
        ]
        return as_videos(assemble(records, contexts), recorder, None)

    @property
    def attributions_of_runs(self) -> list[list[Attribution] | None]:
        """The attributions of the block's one run, as a pipeline's recording has those of several.

        Raises:
            NoAttributionError: nothing was recorded.
        """
        return [self.attributions]

    @property
    def attribution(self) -> Attribution:
        """The attribution of the only image.

        Raises:
            NoAttributionError: there is none, or there are several.
        """
        return only(self.attributions, None, owner="recording")

    def _warn_of_what_is_missing(self) -> None:
        """Say at the end of the block what of its calls is not in the attributions."""
        recorder = self._recorder
        if recorder.failure is not None:
            # Asking for the attribution raises it.
            return
        found = recorder.incomplete()
        if found is not None:
            warn(found[1], found[0])
        if recorder.calls and recorder.foreign_calls:
            warn(
                f"{recorder.foreign_calls} calls of the denoiser came from another thread than the "
                f"block's and were not recorded; {recorder.calls} were.",
                ForeignThreadWarning,
            )

    def _prompts(self, texts: Texts, images: int) -> list[Prompt]:
        assert self._recorder.shape is not None
        columns = self._recorder.shape.tokens
        if texts is None or self._context.tokenizer is None:
            return [Prompt.without_text(columns)] * images
        texts = [texts] if isinstance(texts, str) else list(texts)
        per_prompt, rest = divmod(images, len(texts)) if texts else (0, 1)
        if rest:
            raise InputError(
                f"{len(texts)} prompts do not divide the {images} images that were recorded. Give "
                "one prompt, or one for each image."
            )
        prompts = [align(self._context.tokenizer, text, columns) for text in texts]
        self._warn_of_windows(texts, columns)
        return [prompts[index // per_prompt] for index in range(images)]

    def _warn_of_windows(self, texts: list[str], columns: int) -> None:
        """No text encoder is at hand to see how a text of several windows was divided."""
        tokenizer = self._context.tokenizer
        if self._warned or is_chatglm(tokenizer) or columns <= tokenizer.model_max_length:
            return
        unsure = [text for text in texts if is_ambiguous(tokenized(tokenizer, text), columns)]
        if unsure:
            self._warned = True
            warn(
                f"The {columns} columns of {unsure[0]!r:.200} can be windows of "
                f"{tokenizer.model_max_length} tokens with start and end tokens each, or one text "
                "that was cut in windows, and no text encoder is at hand to tell them apart. The "
                "first was taken. To have the text compared with its embedding, record the "
                "pipeline, and give attribution_prompt=.",
                UncheckedTextWarning,
            )


def is_denoiser(subject: Any) -> bool:
    """True for a module, and for a modular pipeline with a denoiser."""
    return isinstance(subject, nn.Module) or (is_modular(subject) and has_denoiser(subject))


@contextmanager
def record_denoiser(
    subject: Any, processor: RDAAMProcessor | None, context: CallContext
) -> Iterator[DenoiserRecording]:
    """Record all calls of a denoiser within the block as one run.

    Args:
        subject: a denoiser, or a modular pipeline, whose guider says the layout.
        processor: a template with options.
        context: what the calls do not say.

    Raises:
        InputError: the rows of a denoiser's calls were not given.
        UnsupportedPipelineError: a module without text cross-attention sites; a guider that is not
            known.
    """
    rows, tokenizer = context.rows, context.tokenizer
    if not isinstance(subject, nn.Module):
        rows = modular_layout(subject) if rows is None else rows
        tokenizer = getattr(subject, "tokenizer", None) if tokenizer is None else tokenizer
    if rows is None:
        raise InputError(
            f"Which rows of {type(subject).__name__}'s calls carry the prompt is not known. Give "
            "rows='conditional' if all do; the names of the equal parts of the batch in order, "
            "such as rows=('unconditional', 'conditional'); or a function of the call's args and "
            "kwargs that returns them."
        )
    family = family_of_module(subject, rows)
    sites = sites_of(family, subject)
    template = processor or RDAAMProcessor()
    recorder = Recorder(
        subject, family, template.options, announce=lambda text: print_line(text, subject)
    )
    filled = replace(context, rows=rows, tokenizer=tokenizer)
    undo = ExitStack()
    with undo:
        try:
            # Armed first: a denoiser that another run is recording keeps that run's processors.
            recorder.arm(undo)
            itself = self_attention_sites_of(family, subject)
            install_for_run(sites, itself, template, undo)
            recording = DenoiserRecording(recorder, filled)
            # Not in a ``try`` of its own: no handler covers that line of bytecode.
            undo.callback(recorder.settle)
            yield recording
            recording._warn_of_what_is_missing()
        finally:
            undo.close()
