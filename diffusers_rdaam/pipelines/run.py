"""Run: one recorded call of a pipeline, from its arguments to its attributions."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution, RunInfo
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError, NoAttributionError
from diffusers_rdaam.geometry.region import Mask
from diffusers_rdaam.pipelines.assemble import assemble
from diffusers_rdaam.pipelines.given_text import prompts_for
from diffusers_rdaam.recording.families import check_arguments
from diffusers_rdaam.recording.progress import NEGATIVE
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.tokenize import prompt_of

# Arguments that only some pipelines have; told where they were given as one text or number.
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


class Run:
    """What a call was asked, what it has encoded, and what was recorded.

    Args:
        pipe: the pipeline that runs.
        recorder: of the run.
        arguments: of the pipeline's call, by name, defaults included.
        attribution_prompt: the text behind ``prompt_embeds``, or one per prompt, or the parts of
            each.
    """

    def __init__(
        self,
        pipe: Any,
        recorder: Recorder,
        arguments: dict[str, Any],
        attribution_prompt: Any,
    ) -> None:
        self.pipe = pipe
        self.recorder = recorder
        self.arguments = arguments
        self.attribution_prompt = attribution_prompt
        self.guided: bool | None = None
        self._encoded: dict[str, Any] | None = None

    def note_encoding(self, signature: inspect.Signature, *args: Any, **kwargs: Any) -> None:
        """Note what the pipeline's ``encode_prompt`` is given: it may have rewritten the prompt."""
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            # The method's own error says it better.
            return
        self.guided = arguments.get("do_classifier_free_guidance")
        if self._encoded is None:
            self._encoded = dict(arguments)

    def attributions(self, images: Any = None) -> list[Attribution]:
        """One attribution an image, in the order of the images.

        Args:
            images: what the pipeline put out: PIL images, an array, a tensor, or latents. None in
                the middle of a run.

        Raises:
            RDAAMError: nothing was recorded, or the words of the columns are not known.
        """
        maps = self.recorder.read()
        negative = self.recorder.read_negative()
        assert self.recorder.shape is not None and self.recorder.latent_size is not None
        texts = self._texts(check_arguments(self.pipe, self._as_encoded()))
        per_prompt, rest = divmod(len(maps), len(texts))
        if rest:
            raise InputError(f"{len(texts)} prompts do not divide {len(maps)} images.")
        columns = self.recorder.shape.tokens
        prompts = self._prompts(texts, columns)
        against = [self._prompt(text, columns) for text in self._negative_texts(len(texts))]
        decoded = images is not None and self.arguments.get("output_type") != "latent"
        pictures = to_pil(images) if decoded else None
        size = tuple(side * self.pipe.vae_scale_factor for side in self.recorder.latent_size)
        if pictures is not None:
            size = pictures[0].size[::-1]
        return assemble(
            maps,
            [prompts[index // per_prompt] for index in range(len(maps))],
            (size[0], size[1]),
            pictures=pictures,
            runs=[self._facts(index) for index in range(len(maps))],
            negative=negative,
            negative_prompts=[against[index // per_prompt] for index in range(len(maps))],
            masks=self._masks(len(maps), (size[0], size[1])),
            queries=self.recorder.read_queries(),
            negative_queries=self.recorder.read_queries(NEGATIVE),
            vocabulary=self.recorder.read_vocabulary(),
            own=self.recorder.read_own(),
        )

    def _as_encoded(self) -> dict[str, Any]:
        """The arguments with the prompt that was really encoded."""
        prompt = (self._encoded or {}).get("prompt")
        return self.arguments if prompt is None else self.arguments | {"prompt": prompt}

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

    def _prompts(self, texts: list[str | None], columns: int) -> list[Prompt]:
        """Of each text, or of what the user says of the embedding."""
        given = self.attribution_prompt
        encoded = self._as_encoded().get("prompt")
        if given is None or (encoded is not None and given == encoded):
            return [self._prompt(text, columns) for text in texts]
        return prompts_for(
            self.pipe,
            given,
            self.arguments.get("prompt_embeds"),
            columns=columns,
            prompts=len(texts),
            what="prompt_embeds" if encoded is None else "prompts",
            clip_skip=self.arguments.get("clip_skip"),
        )

    def _negative_texts(self, prompts: int) -> list[str | None]:
        """Of each prompt; a negative prompt that is not given is an empty one."""
        if self.arguments.get("negative_prompt_embeds") is not None:
            return [None] * prompts
        text = (self._encoded or {}).get("negative_prompt")
        if text is None:
            text = self.arguments.get("negative_prompt")
        if text is None or isinstance(text, str):
            return [text or ""] * prompts
        texts = list(text)
        return texts if len(texts) == prompts else texts[:1] * prompts

    def _prompt(self, text: str | None, columns: int) -> Prompt:
        if text is None:
            return Prompt.without_text(columns)
        return prompt_of(self.pipe, text, columns)

    def _masks(self, images: int, size: tuple[int, int]) -> list[Mask | None] | None:
        """What each image was painted anew in, as the pipeline sees it; None where nothing was."""
        given = self.arguments.get("mask_image")
        processor = getattr(self.pipe, "mask_processor", None)
        if given is None or processor is None:
            return None
        weights = processor.preprocess(given, height=size[0], width=size[1])[:, 0].float().cpu()
        # A mask without white is no region that could be asked for.
        masks = [Mask(part) if bool(part.any()) else None for part in weights]
        # The pipelines repeat the list of masks as a whole, not each for its prompt's images.
        return [masks[index % len(masks)] for index in range(images)]

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
            "scheduler": type(pipe.scheduler).__name__,
            "num_inference_steps": _number(arguments.get("num_inference_steps")),
            "guidance_scale": _number(arguments.get("guidance_scale")),
            "negative_prompt": negative if isinstance(negative, str) else None,
            "seed": None if generator is None else generator.initial_seed(),
            "image_index": index,
            "denoiser_calls": self.recorder.calls,
            "dtype": str(self.recorder.denoiser.dtype).removeprefix("torch."),
            **{name: value for name, value in more.items() if isinstance(value, (str, int, float))},
        }


def so_far(run: Run | None) -> list[Attribution]:
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
