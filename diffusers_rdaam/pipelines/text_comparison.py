"""Whether the embedding of a text is the embedding that a denoiser was given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt

# A weight changes an embedding's length more than its direction.
MIN_COSINE = 0.9
MIN_SHARE = 0.9
_ROUNDING = 1e-4  # of half precision


@dataclass(frozen=True)
class Comparison:
    """An embedding, and what it is held against.

    Args:
        encoded: of the text, ``(columns, width)``.
        empty: of no text at all, in the same windows.
        row: the embedding.
        widths: of each text encoder's part; all of them must agree.
    """

    encoded: Tensor
    empty: Tensor
    row: Tensor
    widths: Sequence[int]

    def agreeing(self, columns: Sequence[int]) -> Tensor:
        """For each of the columns whether it agrees.

        A cosine of 0.9 does in an encoder whose texts are at right angles to the empty text. Where
        they are nearer to it, because all of its columns are much alike, it is so much more.
        """
        parts = []
        for encoded, empty, row in self._parts():
            distances = 1 - _cosines(encoded, row)[list(columns)]
            spread = (1 - _cosines(empty, row)[list(columns)]).mean().clamp(max=1)
            parts.append(distances <= (1 - MIN_COSINE) * spread + _ROUNDING)
        return torch.stack(parts).all(0)

    def cosine(self, columns: Sequence[int]) -> float:
        """The mean over the columns of the text encoders' least cosine."""
        least = torch.stack([_cosines(one, row) for one, _, row in self._parts()]).amin(0)
        return float(least[list(columns)].mean()) if columns else 1.0

    def share(self, prompt: Prompt) -> float:
        """The share of the text's columns that agree.

        The end of the text must agree, too: a text encoder looks back only, so the beginning of
        another text agrees in all of its own columns.
        """
        text = [token.column for token in prompt.tokens if token.kind == "text"]
        ends = [column for column in ends_of(prompt) if bool(self.row[column].any())]
        if not text and not ends:
            # Of an empty text without special tokens there is nothing to see.
            return 1.0 if not self.row.any() else 0.0
        agrees = self.agreeing([*text, *ends])
        share = float(agrees[: len(text)].float().mean()) if text else 1.0
        if not bool(agrees[len(text) :].all()):
            share = min(share, float(agrees.float().mean()), MIN_SHARE - 0.01)
        return share

    def _parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        sizes = list(self.widths)
        yield from zip(
            self.encoded.split(sizes, -1),
            self.empty.split(sizes, -1),
            self.row.split(sizes, -1),
            strict=True,
        )


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(one, other, dim=-1).nan_to_num(nan=-1.0)


def ends_of(prompt: Prompt) -> list[int]:
    """The end tokens, or the padding behind the text where a tokenizer writes no end."""
    ends = [token.column for token in prompt.tokens if token.kind == "end"]
    if ends:
        return ends
    behind = {token.column + 1 for token in prompt.tokens if token.kind == "text"}
    return [t.column for t in prompt.tokens if t.kind == "padding" and t.column in behind]
