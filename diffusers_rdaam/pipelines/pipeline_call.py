"""PipelineCall: one recorded call of a pipeline, from its arguments to its attributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.record import RunInfo
from diffusers_rdaam.attribution.select import split_by_prompt
from diffusers_rdaam.errors import (
    DenoiserReplacedWarning,
    ForeignThreadWarning,
    ImageCountWarning,
    InputError,
    NoAttributionError,
    NotRecordedWarning,
    PartialRunWarning,
)
from diffusers_rdaam.families import (
    Branch,
    DenoiserCall,
    check_arguments,
    images_of,
    inpaint_masks,
)
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.pipelines.assemble import ImageContext, assemble
from diffusers_rdaam.pipelines.attribution_prompt import prompts_for
from diffusers_rdaam.pipelines.given_prompt import agrees
from diffusers_rdaam.pipelines.image_columns import PROMPTS, image_columns, unknown_columns
from diffusers_rdaam.pipelines.videos import as_videos, is_stacked
from diffusers_rdaam.recording.chosen_columns import ChosenColumns
from diffusers_rdaam.recording.encodings import Encodings, Texts, second_texts
from diffusers_rdaam.recording.image_record import ImageRecord
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.tokens.alignment import prompt_of

# Arguments that only some pipelines have; noted where they were given as one text or number.
_OF_SOME_PIPELINES = (
    "prompt_2",
    "strength",
    "image_guidance_scale",
    "pag_scale",
    "sag_scale",
    "num_frames",
    "clip_skip",
    "denoising_start",
    "denoising_end",
)


class PipelineCall:
    """The arguments of a call, the texts that it has encoded, and its recording.

    Args:
        pipe: the pipeline that runs.
        recorder: of the run.
        arguments: of the pipeline's call, by name, defaults included.
        attribution_prompt: the text behind ``prompt_embeds``, or one per prompt, or the parts of
            each.
        encodings: which text each embedding was made from.
    """

    # Whether it is known which calls and rows carry the prompt: not of a loop of its own.
    is_described = True

    def __init__(
        self,
        pipe: Any,
        recorder: Recorder,
        arguments: dict[str, Any],
        attribution_prompt: Any,
        encodings: Encodings | None = None,
    ) -> None:
        self.pipe = pipe
        self.recorder = recorder
        # A pipeline may write its template into the list of prompts that it is given.
        self.arguments = copied_texts(arguments)
        self.attribution_prompt = attribution_prompt
        self.encodings = encodings or Encodings()
        self._encoded: dict[str, Any] | None = None
        recorder.text.chooser = self._choose_columns

    def _choose_columns(self, call: DenoiserCall, branch: Branch) -> list[ChosenColumns]:
        """The columns of each image of a branch, where a transformer's columns are chosen."""
        chosen = image_columns(
            self.pipe,
            self.recorder.family.tokens,
            self._as_encoded(),
            call,
            branch,
            columns=self.recorder.options.columns,
            attribution_prompt=self.attribution_prompt,
        )
        encoded = self._as_encoded().get("prompt")
        given = self.attribution_prompt
        if given is None or given == encoded or branch is Branch.UNCONDITIONAL:
            return chosen
        return self._checked_columns(chosen, call)

    def _checked_columns(
        self, chosen: list[ChosenColumns], call: DenoiserCall
    ) -> list[ChosenColumns]:
        """The columns of texts that a user gives, without words where the embedding differs."""
        known: dict[str | None, bool] = {}
        found = []
        for image, one in enumerate(chosen):
            text = None if one.prompt is None else one.prompt.text
            if text is None:
                found.append(one)
                continue
            if text not in known:
                row = None if call.text is None or call.text.ndim != 3 else call.text[image]
                known[text] = agrees(self.pipe, text, row, one.columns, self.arguments)
            found.append(one if known[text] else unknown_columns(call.length_of(image)))
        return found

    def note_encoding(self, arguments: dict[str, Any], *, is_certain: bool) -> None:
        """Note what ``encode_prompt`` is given during the run: it may have rewritten the prompt."""
        if self._encoded is None and is_certain:
            self._encoded = dict(arguments)

    def attributions(self, result: Any = None) -> list[Attribution]:
        """One attribution an image, in the order of the images; of videos one a video.

        Args:
            result: what the pipeline's call returned; None in the middle of a run.

        Raises:
            RDAAMError: nothing was recorded, or not of the whole run.
        """
        records = self.recorder.read()
        if result is not None:
            self._check_whole()
            self._check_count(len(records), result)
        prompts = self._prompts(len(records))
        pictures = self._pictures(result, len(records))
        attributions = assemble(records, self._contexts(records, prompts, pictures))
        texts = self.recorder.progress.texts
        if len(set(texts)) > 1 and "steps" in self.recorder.options.keep:
            by_text = self._prompts_of_texts(prompts)
            attributions = [
                split_by_prompt(one, texts, {text: found[i] for text, found in by_text.items()})
                for i, one in enumerate(attributions)
            ]
        return as_videos(attributions, self.recorder, pictures)

    def _contexts(
        self, records: list[ImageRecord], prompts: list[Prompt], frames: list[Image.Image] | None
    ) -> list[ImageContext]:
        """What is known of each image beyond its maps, from the images of the run or its frames."""
        images = len(records)
        against = self._negative_prompts(images) if records[0].negative is not None else None
        size = self._image_size(frames)
        # A video's frames are put to its maps when these have been divided among them.
        pictures = None if is_stacked(self.recorder) else frames
        masks = self._masks(images, size)
        return [
            ImageContext(
                prompt=prompts[index],
                size=size,
                run=self._facts(index),
                negative_prompt=None if against is None else against[index],
                picture=None if pictures is None else pictures[index],
                mask=None if masks is None else masks[index],
            )
            for index in range(images)
        ]

    def _image_size(self, pictures: list[Image.Image] | None) -> tuple[int, int]:
        """Height and width in pixels: of the images, or without images from the latent grid."""
        if pictures is not None:
            width, height = pictures[0].size
            return height, width
        return self._size_by_grid()

    def _size_by_grid(self) -> tuple[int, int]:
        """Height and width in pixels that the denoiser's grid becomes."""
        assert self.recorder.grid is not None
        return self.recorder.family.image_size(self.pipe, self.recorder.grid)

    def _prompts_of_texts(self, first: list[Prompt]) -> dict[int, list[Prompt]]:
        """For each text of a run in which the prompt was exchanged, the prompt of each image."""
        texts = self.recorder.progress.texts
        columns = len(first[0].tokens)
        prompts = {texts[0]: first}
        for text in dict.fromkeys(texts[1:]):
            if text not in prompts:
                seen = self.recorder.texts.rows_of(text)
                found = [None] if seen is None else self.encodings.of_rows(seen)
                rows = [found[i * len(found) // len(first)] for i in range(len(first))]
                prompts[text] = [
                    self._prompt(None, None, columns)
                    if row is None
                    else self._prompt(*row[0], columns)
                    for row in rows
                ]
        return prompts

    def _check_whole(self) -> None:
        """See that the steps of the scheduler were all recorded.

        Raises:
            NoAttributionError: another denoiser or another thread made some of them.
        """
        recorder = self.recorder
        seen = recorder.calls + recorder.skipped
        if recorder.was_replaced or recorder.family.denoiser(self.pipe) is not recorder.denoiser:
            raise NoAttributionError(
                f"Another denoiser was put in the pipeline during the run: the "
                f"{type(recorder.denoiser).__name__} that was recorded made {seen} calls of "
                f"{max(recorder.progress.steps, seen)} steps. Give each denoiser a run of its own, "
                "for example with denoising_end= and denoising_start=, or output_type='latent'.",
                warning=DenoiserReplacedWarning,
            )
        if recorder.foreign_calls and recorder.progress.steps > seen:
            raise NoAttributionError(
                f"{recorder.foreign_calls} calls of the denoiser came from another thread than the "
                f"run's, whose {seen} calls are not all of its {recorder.progress.steps} steps. "
                "Call the denoiser from the thread that calls the pipeline.",
                warning=ForeignThreadWarning,
            )

    def _check_count(self, recorded: int, result: Any) -> None:
        count = count_images(result)
        if is_stacked(self.recorder):
            # As many frames as the autoencoder makes of each video.
            return
        if count not in (None, recorded) and not _repeats(result, recorded):
            raise NoAttributionError(
                f"The call returned {count} images, and {recorded} were recorded: which maps "
                "belong to which image is not known. If the class has a loop of its own, say which "
                "calls and rows are the prompt's with record_attention(pipe, rows=…, prompt=…).",
                warning=ImageCountWarning,
            )

    def remarks(self) -> list[tuple[type[NotRecordedWarning], str]]:
        """What of the run is not in its attribution, though that is right, with its warning."""
        recorder = self.recorder
        found = recorder.incomplete()
        if found is not None:
            return [found]
        seen = recorder.calls
        expected = max(recorder.progress.steps, getattr(self.pipe, "_num_timesteps", None) or 0)
        if not self.is_described or seen >= expected or getattr(self.pipe, "_interrupt", False):
            # Who has interrupted the run knows; its facts say so.
            return []
        text = (
            f"The denoiser was called {seen} times in a run of {expected} steps: something skips "
            "calls. The attribution is that of the calls that were made."
        )
        return [(PartialRunWarning, text)]

    def _pictures(self, result: Any, count: int) -> list[Image.Image] | None:
        """The images, where they were decoded and have the shape of the latents."""
        if result is None or self.arguments.get("output_type") == "latent":
            return None
        if self.is_described:
            return to_pil(images_of(result))
        # A class of its own may return anything, and images of any size.
        pictures = as_pictures(result)
        if is_stacked(self.recorder):
            return pictures if pictures and len(pictures) % count == 0 else None
        height, width = self._size_by_grid()
        fits = [picture.width * height == picture.height * width for picture in pictures]
        return pictures if len(pictures) == count and all(fits) else None

    def _prompts(self, images: int) -> list[Prompt]:
        """The prompt of each image: what the user says, or what ``encode_prompt`` was given."""
        arguments = check_arguments(self.pipe, self._as_encoded())
        chosen = self.recorder.text.prompts(Branch.CONDITIONAL)
        if chosen is not None:
            return chosen
        given, rows = self.attribution_prompt, self.recorder.first_text
        if given is None and rows is not None:
            # Frames of one image have its text.
            found = self.encodings.of_rows(rows)
            if None not in found and found and images % len(found) == 0:
                by_row = self._found_prompts(found, rows)
                return [by_row[index * len(found) // images] for index in range(images)]
        texts = self._texts(arguments)
        per_prompt, rest = divmod(images, len(texts))
        if rest:
            raise NoAttributionError(
                f"{len(texts)} prompts do not divide {images} images.", warning=ImageCountWarning
            )
        prompts = self._of_texts(texts, arguments, rows)
        return [prompts[index // per_prompt] for index in range(images)]

    def _found_prompts(
        self, found: list[tuple[Texts, bool] | None], rows: torch.Tensor
    ) -> list[Prompt]:
        """The prompt of each row; a text is compared where the stock method has not encoded it."""
        columns = rows.shape[1]
        prompts: dict[tuple[Texts, bool] | None, Prompt] = {}
        for row, one in zip(rows, found, strict=True):
            if one not in prompts:
                assert one is not None
                (text, second), is_certain = one
                prompts[one] = (
                    self._prompt(text, second, columns)
                    if is_certain
                    else self._compared([text], row.unsqueeze(0))[0]
                )
        return [prompts[one] for one in found]

    def _of_texts(
        self, texts: list[str | None], arguments: dict[str, Any], rows: torch.Tensor | None
    ) -> list[Prompt]:
        """The prompts of texts that were taken from the call's arguments, or that a user gives."""
        assert self.recorder.shape is not None
        columns = self.recorder.shape.tokens
        given, encoded = self.attribution_prompt, arguments.get("prompt")
        by_prompt = None if rows is None or rows.shape[0] % len(texts) else rows
        if by_prompt is not None:
            by_prompt = by_prompt[:: by_prompt.shape[0] // len(texts)]
        if given is not None and given != encoded:
            what = "prompt_embeds" if encoded is None else "prompts"
            return self._compared(given, by_prompt, prompts=len(texts), what=what)
        # What diffusers itself has encoded needs no check; what a class has made of it does.
        own = getattr(getattr(type(self.pipe), "encode_prompt", None), "_rdaam_is_stock", True)
        if None not in texts and (not own or not self.is_described):
            return self._compared(texts, by_prompt, prompts=len(texts), what="prompts")
        both = zip(texts, second_texts(texts, arguments.get("prompt_2")), strict=True)
        return [self._prompt(text, second, columns) for text, second in both]

    def _compared(
        self,
        given: Any,
        rows: torch.Tensor | None,
        *,
        prompts: int | None = None,
        what: str = "prompts",
    ) -> list[Prompt]:
        assert self.recorder.shape is not None
        return prompts_for(
            self.pipe,
            given,
            rows,
            columns=self.recorder.shape.tokens,
            prompts=prompts,
            what=what,
            clip_skip=self.arguments.get("clip_skip"),
        )

    def _negative_prompts(self, images: int) -> list[Prompt]:
        assert self.recorder.shape is not None
        chosen = self.recorder.text.prompts(Branch.UNCONDITIONAL)
        if chosen is not None:
            return chosen
        columns = self.recorder.shape.tokens
        given = self._as_encoded().get("prompt")
        count = len(given) if isinstance(given, list) and images % len(given) == 0 else 1
        texts = self._negative_texts(count)
        both = zip(texts, second_texts(texts, self._negative_second()), strict=True)
        prompts = [self._prompt(text, second, columns) for text, second in both]
        return [prompts[index * count // images] for index in range(images)]

    def _as_encoded(self) -> dict[str, Any]:
        """The arguments with the prompt that was really encoded, in both text encoders."""
        encoded = self._encoded or {}
        if encoded.get("prompt") is None:
            return self.arguments
        return self.arguments | {name: encoded.get(name) for name in PROMPTS}

    def _texts(self, arguments: dict[str, Any]) -> list[str | None]:
        prompt = arguments.get("prompt")
        if prompt is None:
            embeds = arguments.get("prompt_embeds")
            if embeds is None:
                raise InputError(
                    "The call has neither an argument prompt nor prompt_embeds by these names, so "
                    "its words are not known. Pass them by name."
                )
            texts: list[Any] = [None] * embeds.shape[0]
        else:
            texts = [prompt] if isinstance(prompt, str) else list(prompt)
        return texts

    def _negative_texts(self, prompts: int) -> list[str | None]:
        """The negative text of each prompt; one that is not given is empty."""
        if self.arguments.get("negative_prompt_embeds") is not None:
            return [None] * prompts
        text = (self._encoded or {}).get("negative_prompt")
        if text is None:
            text = self.arguments.get("negative_prompt")
        if text is None or isinstance(text, str):
            return [text or ""] * prompts
        texts = list(text)
        return texts if len(texts) == prompts else texts[:1] * prompts

    def _negative_second(self) -> Any:
        """What the second text encoder was given as the negative prompt, as an argument."""
        given = self.arguments if self._encoded is None else self._encoded
        config = getattr(self.pipe, "config", {})
        if given.get("negative_prompt") is None and config.get("force_zeros_for_empty_prompt"):
            # The embedding is zeros then, whatever the second text is.
            return None
        return given.get("negative_prompt_2")

    def _prompt(self, text: str | None, second: str | None, columns: int) -> Prompt:
        if text is None:
            return Prompt.without_text(columns)
        return prompt_of(self.pipe, text, columns, second)

    def _masks(self, images: int, size: tuple[int, int]) -> list[Mask | None] | None:
        """The region of each image that was painted anew; None where the call has no mask."""
        masks = inpaint_masks(self.pipe, self.arguments.get("mask_image"), size)
        # The pipelines repeat the list of masks as a whole, not each for its prompt's images.
        return [masks[index % len(masks)] for index in range(images)] if masks else None

    def _unread_negative(self) -> dict[str, bool]:
        """A note that the negative prompt was to be kept and had no rows."""
        recorder = self.recorder
        asked = recorder.options.keep_negative and not recorder.progress.negative_calls
        return {"keep_negative": True} if asked else {}

    def _facts(self, index: int) -> RunInfo:
        pipe, arguments = self.pipe, self.arguments
        generator = arguments.get("generator")
        if isinstance(generator, list):
            generator = generator[index] if index < len(generator) else None
        more = {name: arguments.get(name) for name in _OF_SOME_PIPELINES}
        negative = arguments.get("negative_prompt")
        return {
            "pipeline": type(pipe).__name__,
            "model": None if pipe.name_or_path is None else str(pipe.name_or_path),
            "scheduler": type(_scheduler_of(pipe)).__name__,
            "num_inference_steps": _number(arguments.get("num_inference_steps")),
            "guidance_scale": _number(arguments.get("guidance_scale")),
            "negative_prompt": negative if isinstance(negative, str) else None,
            "seed": None if generator is None else generator.initial_seed(),
            "image_index": index,
            "denoiser_calls": self.recorder.calls,
            "attention": self.recorder.attention,
            "dtype": str(self.recorder.denoiser.dtype).removeprefix("torch."),
            **{name: value for name, value in more.items() if isinstance(value, (str, int, float))},
            **self._unread_negative(),
            **({"interrupted": True} if getattr(pipe, "_interrupt", False) else {}),
        }


def _scheduler_of(pipe: Any) -> Any:
    """The denoiser's scheduler; UnCLIP has others for its prior and for the last pixels."""
    return pipe.decoder_scheduler if "decoder_scheduler" in pipe.components else pipe.scheduler


def copied_texts(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments whose lists of prompts are copies."""
    return {
        name: list(value) if "prompt" in name and isinstance(value, list) else value
        for name, value in arguments.items()
    }


def so_far(run: PipelineCall | None) -> list[Attribution]:
    """The attributions of a run that is not over.

    Raises:
        NoAttributionError: no run is going on.
    """
    if run is None:
        raise NoAttributionError(
            "No recorded run is going on. Ask for attributions_so_far in a callback of the call; "
            "after it, they are at pipe.attributions."
        )
    return run.attributions()


def count_images(result: Any) -> int | None:
    """How many images a call returned; None where that is not clear.

    Args:
        result: an output of diffusers, or whatever a class of its own returns.
    """
    if isinstance(result, Image.Image):
        return 1
    try:
        if isinstance(result[0], torch.Tensor) and result[0].ndim == 5:
            # Videos have their frames before the channels, and their latents after them.
            return None
        images = result if _is_batch(result) else images_of(result)
    except (IndexError, KeyError, TypeError, AttributeError):
        return None
    return len(images) if _is_batch(images) else None


def _repeats(result: Any, count: int) -> bool:
    """True if a call's images repeat the first ones.

    Inpainting does so where a callback ends the guidance: its mask still has both halves.
    """
    images = images_of(result)
    parts = [
        np.asarray(image.detach().float().cpu() if isinstance(image, torch.Tensor) else image)
        for image in images
    ]
    return len(parts) % count == 0 and all(
        np.array_equal(part, parts[index % count]) for index, part in enumerate(parts)
    )


def as_pictures(result: Any) -> list[Image.Image]:
    """The images of whatever a class of its own returns; none where it is not clear which."""
    if isinstance(result, Image.Image):
        return [result]
    try:
        images = result if _is_batch(result) else images_of(result)
    except (IndexError, KeyError, TypeError, AttributeError):
        return []
    is_latent = isinstance(images, torch.Tensor) and images.ndim == 4 and images.shape[1] != 3
    return to_pil(images) if _is_batch(images) and not is_latent else []


def _is_batch(images: Any) -> bool:
    if isinstance(images, (torch.Tensor, np.ndarray)):
        return images.ndim == 4
    return isinstance(images, list) and all(isinstance(one, Image.Image) for one in images)


def to_pil(images: Any) -> list[Image.Image]:
    """A pipeline's images as PIL images: PIL, arrays ``(n, height, width, 3)`` or tensors
    ``(n, 3, height, width)`` with values from 0 to 1.
    """
    if isinstance(images, torch.Tensor):
        images = rearrange(
            images.detach().float().cpu(), "n rgb height width -> n height width rgb"
        )
        images = images.numpy()
    if isinstance(images, np.ndarray):
        levels = (np.clip(images, 0.0, 1.0) * 255.0).round().astype(np.uint8)
        return [Image.fromarray(level) for level in levels]
    return list(images)


def _number(value: Any) -> int | float | None:
    """Tensors and numpy's numbers are as good as Python's to the stock pipelines."""
    if isinstance(value, (torch.Tensor, np.generic, np.ndarray)):
        value = value.item() if math.prod(value.shape) == 1 else None
    return value if isinstance(value, (int, float)) else None
