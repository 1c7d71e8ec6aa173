"""EncoderColumns: which columns of the denoiser's text embedding a text encoder has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusers_rdaam.tokens.column_layouts import Piece

# The argument by which a source is asked for a negative prompt, with the value True: some pipelines
# put no template around one.
IS_NEGATIVE = "is_negative"


@dataclass(frozen=True)
class EncoderColumns:
    """The columns of a text embedding that one text encoder has made.

    Args:
        encoder: the pipeline's attribute, such as ``"text_encoder_3"``.
        name: what a user asks by: ``"clip"``, ``"t5"``, ``"qwen"``.
        text: what the user wrote; the spans of the pieces point into it.
        argument: the argument of the pipeline's call that it is: ``"prompt"``, ``"prompt_2"``.
        pieces: one for each column from ``start`` on, in order, with the input ids.
        start: the first column in the call's text embedding.
        cut: the characters that the encoder was not given, because the text is too long.
    """

    encoder: str
    name: str
    text: str
    argument: str
    pieces: tuple[Piece, ...]
    start: int = 0
    cut: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """The column behind the last one."""
        return self.start + len(self.pieces)


# A source is given the pipeline, the arguments of its call for one image by name, and the length of
# this image's text embedding as the denoiser is given it. The text is in "prompt", "prompt_2" and
# so on, that of a negative prompt too, then together with IS_NEGATIVE. It raises InputError where
# they do not fit.
Source = Callable[[Any, Mapping[str, Any], int], tuple[EncoderColumns, ...]]
