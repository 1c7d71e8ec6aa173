"""From a finished run to its attributions: prompts to images, images to PIL, facts of the run."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from diffusers_rdaam.attribution.attribution import Attribution, RunInfo
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError, PromptTruncatedWarning
from diffusers_rdaam.recording.families import check_arguments
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.recording.tokenize import align_written

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


def build_attributions(
    pipe: Any,
    recorder: Recorder,
    images: Any,
    arguments: dict[str, Any],
    attribution_prompt: str | list[str] | None,
) -> list[Attribution]:
    """One attribution an image, in the order of the images.

    Args:
        pipe: the pipeline that ran.
        recorder: of the run.
        images: what the pipeline put out: PIL images, an array, a tensor, or latents.
        arguments: of the pipeline's call, by name, defaults included.
        attribution_prompt: the text behind ``prompt_embeds``.
    """
    maps = recorder.read()
    assert recorder.accumulator is not None and recorder.latent_size is not None
    arguments = check_arguments(pipe, arguments)
    texts = _texts(pipe, arguments, attribution_prompt)
    per_prompt, rest = divmod(len(maps), len(texts))
    if rest:
        raise InputError(f"{len(texts)} prompts do not divide {len(maps)} images.")
    columns = recorder.accumulator.shape.tokens
    prompts = [_prompt(pipe, text, columns) for text in texts]
    for prompt in dict.fromkeys(prompts):
        _warn_of_lost_words(prompt)
    pictures = to_pil(images) if arguments.get("output_type") != "latent" else None
    factor = pipe.vae_scale_factor
    latent_height, latent_width = recorder.latent_size
    size = (latent_height * factor, latent_width * factor)
    return [
        Attribution(
            prompt=prompts[index // per_prompt],
            grids=grids,
            image_size=size if pictures is None else pictures[index].size[::-1],
            image=None if pictures is None else pictures[index],
            run=_run_info(pipe, recorder, arguments, index),
        )
        for index, grids in enumerate(maps)
    ]


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


def _texts(
    pipe: Any, arguments: dict[str, Any], attribution_prompt: str | list[str] | None
) -> list[str | None]:
    prompt = arguments.get("prompt")
    if prompt is None:
        embeds = arguments.get("prompt_embeds")
        if embeds is None:
            raise InputError(
                "The call has neither an argument prompt nor prompt_embeds by these names, so its "
                "words are not known. Pass them by name."
            )
        texts: list[Any] = [None] * embeds.shape[0]
    else:
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if attribution_prompt is not None:
        wanted, what = len(texts), "prompt_embeds" if prompt is None else "prompts"
        texts = [attribution_prompt] if isinstance(attribution_prompt, str) else attribution_prompt
        if len(texts) != wanted:
            raise InputError(
                f"attribution_prompt has {len(texts)} texts for {wanted} {what}; give one for each."
            )
    return texts


def _converted(pipe: Any, text: str) -> str:
    # Textual inversion writes one token of a prompt as several before it tokenizes.
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return text if convert is None else convert(text, _tokenizer(pipe))


def _tokenizer(pipe: Any) -> Any:
    """Of ``prompt``: with two text encoders the first one's, unless there is only the second."""
    return pipe.tokenizer if pipe.tokenizer is not None else pipe.tokenizer_2


def _prompt(pipe: Any, text: str | None, columns: int) -> Prompt:
    if text is None:
        return Prompt.without_text(columns)
    return align_written(_tokenizer(pipe), text, _converted(pipe, text), columns)


def _warn_of_lost_words(prompt: Prompt) -> None:
    lost = prompt.lost_words
    if lost:
        names = ", ".join(word.text for word in lost[:20]) + (", …" if len(lost) > 20 else "")
        warnings.warn(
            f"The prompt is longer than the text encoder's {len(prompt.tokens)} tokens; these "
            f"words were not seen and have no heat map: {names}.",
            PromptTruncatedWarning,
            stacklevel=5,
        )


def _run_info(pipe: Any, recorder: Recorder, arguments: dict[str, Any], index: int) -> RunInfo:
    generator = arguments.get("generator")
    if isinstance(generator, list):
        generator = generator[index] if index < len(generator) else None
    more = {name: arguments.get(name) for name in _OF_SOME_PIPELINES}
    return {
        "pipeline": type(pipe).__name__,
        "model": None if pipe.name_or_path is None else str(pipe.name_or_path),
        "scheduler": type(pipe.scheduler).__name__,
        "num_inference_steps": arguments.get("num_inference_steps"),
        "guidance_scale": arguments.get("guidance_scale"),
        "negative_prompt": _text_or_none(arguments.get("negative_prompt")),
        "seed": None if generator is None else generator.initial_seed(),
        "image_index": index,
        "denoiser_calls": recorder.calls,
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        **{name: value for name, value in more.items() if isinstance(value, (str, int, float))},
    }


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
