"""Runs whose maps are not maps of their images, seen from the arguments."""

from __future__ import annotations

from typing import Any

from diffusers_rdaam.errors import (
    ImageMismatchWarning,
    NoAttributionError,
    PromptSwitchedWarning,
)
from diffusers_rdaam.families.registry import stock_class
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES


def check_arguments(pipe: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Refuse a run whose maps are not maps of its images.

    Args:
        pipe: the pipeline that ran.
        arguments: the arguments of its call, by name; ``prompt`` as it was encoded.

    Returns:
        The arguments, with one prompt where the pipeline encoded the same one several times.

    Raises:
        NoAttributionError: an argument changes that; the text names it and says what to do.
    """
    if arguments.get("padding_mask_crop") is not None:
        raise NoAttributionError(
            "With padding_mask_crop the denoiser works on an enlarged crop that is pasted into the "
            "image afterwards, so its maps are not maps of the image. Leave padding_mask_crop out, "
            "or crop the image yourself.",
            warning=ImageMismatchWarning,
        )
    stock = stock_class(type(pipe))
    entry = None if stock is None else TRANSFORMER_PIPELINES.get(stock.__name__)
    if entry is not None and entry.mismatch is not None:
        why = entry.mismatch(pipe, arguments)
        if why:
            raise NoAttributionError(why, warning=ImageMismatchWarning)
    prompt = arguments.get("prompt")
    if getattr(pipe, "free_noise_enabled", False) and isinstance(prompt, (list, dict)):
        texts = list(dict.fromkeys(prompt.values() if isinstance(prompt, dict) else prompt))
        if len(texts) > 1:
            raise NoAttributionError(
                "FreeNoise blends the embeddings of its prompts from frame to frame, so a column "
                f"stands for words of several of these {len(texts)}: "
                f"{', '.join(repr(text) for text in texts)}. Give one prompt for all frames.",
                warning=PromptSwitchedWarning,
            )
        return arguments | {"prompt": texts[0]}
    return arguments
