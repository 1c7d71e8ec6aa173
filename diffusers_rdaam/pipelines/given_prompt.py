"""Whether a text that is given for an embedding is the one that a transformer's embedding is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.errors import TextMismatchWarning, UncheckedTextWarning
from diffusers_rdaam.open_vocabulary.encode import embeddings_of
from diffusers_rdaam.recording.announce import warn

# Of a column's states: encoded again in another precision, or in a batch, they differ by less.
_LEAST_COSINE = 0.99
_LENGTH = "max_sequence_length"


@torch.no_grad()
def agrees(
    pipe: Any, text: str, row: Tensor | None, columns: Sequence[int], arguments: Mapping[str, Any]
) -> bool:
    """Whether the text's columns of an embedding are what the pipeline makes of the text.

    Where it cannot be found out, a warning says why, and the answer is yes.

    Args:
        pipe: the pipeline, with its text encoders.
        text: that was given.
        row: the embedding ``(columns, width)`` of one image; None where it is not at hand.
        columns: those of the text's tokens.
        arguments: of the pipeline's call.
    """
    more = {"prompt_2": None, "prompt_3": None, "prompt_4": None, "negative_prompt": None}
    if _LENGTH in arguments:
        more[_LENGTH] = arguments[_LENGTH]
    why = "the embedding is not at hand"
    if row is not None:
        try:
            found = embeddings_of(pipe, [text], **more)[0].to(row)
        except Exception as error:
            # The image is made in any case, and the text may well be right.
            why = f"it could not be encoded again ({type(error).__name__}: {error})"
        else:
            same = found.shape == row.shape and _is_close(found, row, columns)
            if not same:
                warn(_DIFFERS.format(text=text[:200]), TextMismatchWarning)
            return same
    warn(_UNCHECKED.format(text=text[:200], why=why.rstrip(".")), UncheckedTextWarning)
    return True


def _is_close(found: Tensor, row: Tensor, columns: Sequence[int]) -> bool:
    chosen = list(columns) or list(range(row.shape[0]))
    cosines = torch.nn.functional.cosine_similarity(
        found[chosen].float(), row[chosen].float(), dim=-1
    )
    return bool((cosines > _LEAST_COSINE).all())


_DIFFERS = (
    "attribution_prompt={text!r} is not the text that the embedding was made from, so its columns "
    "have no words: ask for them by number, with attribution.column(index). Give the text that was "
    "encoded."
)
_UNCHECKED = (
    "attribution_prompt={text!r} was not compared with the embedding, because {why}. Its words are "
    "right only if the embedding was made from that text. Load the pipeline with its text encoders "
    "to have it compared."
)
