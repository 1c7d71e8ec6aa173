"""The pipelines that can be explained by generating again, and what ``encode_prompt`` returns."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffusers_rdaam.errors import UnsupportedPipelineError
from diffusers_rdaam.families.registry import stock_class

# A text embedding (1, columns, width), and the pooled one (1, width) of models that have one.
Embeddings = tuple[Tensor, Tensor | None]
_TEXTS = ("prompt", "prompt_2", "prompt_3", "prompt_embeds", "pooled_prompt_embeds")


@dataclass(frozen=True)
class EncodedPrompt:
    """Where the prompt's embeddings are among the results of a pipeline's ``encode_prompt``.

    The text embedding comes first.

    Args:
        pooled: the place of the pooled embedding; None where the model has none.
    """

    pooled: int | None = None

    def embeddings(self, encoded: Sequence[Any]) -> Embeddings:
        """The prompt's embeddings among the results, without a graph."""
        pooled = None if self.pooled is None else encoded[self.pooled].detach()
        return encoded[0].detach(), pooled

    def with_embeddings(
        self, encoded: Sequence[Any], text: Tensor, pooled: Tensor | None
    ) -> tuple[Any, ...]:
        """The results with other embeddings of the prompt."""
        found = list(encoded)
        found[0] = text
        if self.pooled is not None and pooled is not None:
            found[self.pooled] = pooled
        return tuple(found)


_TEXT_ALONE = EncodedPrompt()
# The text embeddings of prompt and negative prompt, and then the pooled ones.
_AFTER_NEGATIVE = EncodedPrompt(pooled=2)
# FLUX encodes its negative prompt in another call.
_AFTER_TEXT = EncodedPrompt(pooled=1)

# By the exact name of diffusers' class. A new line needs a look at the pipeline's source: does its
# call encode the prompt in self.encode_prompt before anything else, read images with
# self.image_processor and count _num_timesteps?
EXPLAINED: dict[str, EncodedPrompt] = {
    "StableDiffusionPipeline": _TEXT_ALONE,
    "StableDiffusionImg2ImgPipeline": _TEXT_ALONE,
    "StableDiffusionInpaintPipeline": _TEXT_ALONE,
    "StableDiffusionXLPipeline": _AFTER_NEGATIVE,
    "StableDiffusionXLImg2ImgPipeline": _AFTER_NEGATIVE,
    "StableDiffusionXLInpaintPipeline": _AFTER_NEGATIVE,
    "StableDiffusion3Pipeline": _AFTER_NEGATIVE,
    "StableDiffusion3Img2ImgPipeline": _AFTER_NEGATIVE,
    "StableDiffusion3InpaintPipeline": _AFTER_NEGATIVE,
    "FluxPipeline": _AFTER_TEXT,
    "FluxImg2ImgPipeline": _AFTER_TEXT,
    "FluxInpaintPipeline": _AFTER_TEXT,
}


def check_pipeline(pipe: Any) -> EncodedPrompt:
    """Refuse a pipeline whose loop has not been looked at.

    Returns:
        What its ``encode_prompt`` returns.

    Raises:
        UnsupportedPipelineError: its class is not in ``EXPLAINED``.
    """
    stock = stock_class(type(pipe))
    perturbs = any(base.__name__ == "PAGMixin" for base in type(pipe).__mro__)
    if stock is None or stock.__name__ not in EXPLAINED or perturbs:
        raise UnsupportedPipelineError(
            f"{type(pipe).__name__} cannot be explained by generating again: its loop has not been "
            f"looked at. Supported: {', '.join(EXPLAINED)} and classes derived from them. What a "
            "recorded run says (output.attribution.region) needs none of this."
        )
    return EXPLAINED[stock.__name__]


def without_words(encode: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``encode_prompt`` gives for an empty prompt, all else as it was called."""
    bound = inspect.signature(encode).bind(*args, **kwargs)
    for name in _TEXTS:
        if name in bound.arguments:
            bound.arguments[name] = "" if name == "prompt" else None
    return encode(*bound.args, **bound.kwargs)
