"""Encodings: the text that each embedding of a run was made from, by ``encode_prompt``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.families import Branch, RowsOfBranches

# The text of the first text encoder, and that of the second where it differs, else None.
Texts = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Encoding:
    """Rows of an embedding and the text of each.

    Args:
        rows: ``(rows, columns, width)``.
        texts: of each row the text, and the second text encoder's where it differs.
        is_negative: whether the method returned the rows as the negative prompt's.
        is_certain: whether the stock method made the rows, which encodes exactly this text; a
            method that overrides it may have changed the text or the embedding.
    """

    rows: Tensor = field(repr=False)
    texts: tuple[Texts, ...]
    is_negative: bool
    is_certain: bool


class Encodings:
    """The embeddings that were made during a run, in order; nothing is copied."""

    def __init__(self) -> None:
        self._encodings: list[Encoding] = []

    def note(self, arguments: dict[str, Any], result: Any, *, is_certain: bool) -> None:
        """Note arguments and result of a method such as ``encode_prompt``.

        Args:
            arguments: the method's, by name.
            result: ``(positive, negative, …)``; any other result is ignored.
            is_certain: whether it was the stock method.
        """
        if not isinstance(result, (tuple, list)) or not result:
            return
        prompt = arguments.get("prompt")
        negative = arguments.get("negative_prompt")
        self._add(result[0], prompt, arguments.get("prompt_2"), False, is_certain)
        if len(result) > 1 and arguments.get("negative_prompt_embeds") is None:
            count = 1 if not isinstance(prompt, list) else len(prompt)
            negatives = [""] * count if negative is None else negative
            other = arguments.get("negative_prompt_2")
            # Without a negative prompt most models use zeros, whatever the second one is.
            if negative is None and other and isinstance(result[1], Tensor) and not result[1].any():
                other = None
            self._add(result[1], negatives, other, True, is_certain)

    def _add(
        self, rows: Any, prompt: Any, second: Any, is_negative: bool, is_certain: bool
    ) -> None:
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(rows, Tensor) or rows.ndim != 3 or not _are_texts(texts):
            return
        times, rest = divmod(rows.shape[0], len(texts))
        if rest or not times:
            return
        # The rows of several images of one prompt are adjacent.
        both = zip(texts, second_texts(texts, second), strict=True)
        by_row = tuple(text for text in both for _ in range(times))
        self._encodings.append(Encoding(rows, by_row, is_negative, is_certain))

    def of_rows(self, rows: Tensor) -> list[tuple[Texts, bool] | None]:
        """The texts that each row was made from, and whether they are certain; None if unknown.

        A positive prompt takes precedence over a negative one with the same embedding.

        Args:
            rows: ``(rows, columns, width)``, the denoiser's input.
        """
        texts: list[tuple[Texts, bool] | None] = [None] * rows.shape[0]
        ordered = sorted(self._encodings, key=lambda one: (not one.is_certain, one.is_negative))
        for encoding in ordered:
            if None not in texts:
                break
            equal = _equal(rows, encoding.rows)
            for index, matches in enumerate(() if equal is None else equal):
                if texts[index] is None and any(matches):
                    text = encoding.texts[matches.index(True)]
                    texts[index] = (text, encoding.is_certain)
        return texts

    def rows(self, states: Tensor) -> RowsOfBranches | None:
        """Which rows of a denoiser call belong to the prompt, and which to the negative prompt.

        For loops that are not a class of diffusers: a row belongs to the prompt whose embedding it
        has. If the two texts are the same, the halves of the batch decide; the maps of both halves
        are then the same.

        Args:
            states: the text embedding of all rows, ``(rows, columns, width)``.

        Returns:
            The rows; None where no row belongs to the prompt or the rows are not adjacent.
        """
        positive = self._rows_of(states, is_negative=False)
        negative = self._rows_of(states, is_negative=True)
        conditional = [i for i in positive if i not in negative]
        both = [i for i in positive if i in negative]
        if not conditional and len(both) == states.shape[0] and len(both) % 2 == 0:
            conditional, both = both[len(both) // 2 :], both[: len(both) // 2]
        other = [i for i in negative if i not in positive] or both
        prompt_rows, negative_rows = _range(conditional), _range(other)
        if prompt_rows is None:
            return None
        rows = {Branch.CONDITIONAL: prompt_rows}
        return rows if negative_rows is None else rows | {Branch.UNCONDITIONAL: negative_rows}

    def _rows_of(self, states: Tensor, *, is_negative: bool) -> list[int]:
        indices: set[int] = set()
        for encoding in self._encodings:
            if encoding.is_negative == is_negative:
                for index, matches in enumerate(_equal(states, encoding.rows) or ()):
                    if any(matches):
                        indices.add(index)
        return sorted(indices)


def _equal(rows: Tensor, others: Tensor) -> list[list[bool]] | None:
    """For each row whether it equals each of the others; None where the shapes differ."""
    if rows.ndim != 3 or rows.shape[1:] != others.shape[1:]:
        return None
    others = others.to(device=rows.device, dtype=rows.dtype)
    return [[bool(torch.equal(row, other)) for other in others] for row in rows]


def second_texts(texts: Sequence[Any], second: Any) -> list[str | None]:
    """The second text encoder's text for each text, or None where both encoders have the same.

    The stock methods read their arguments so: without a ``prompt_2``, or with an empty one, both
    text encoders have the same text.

    Args:
        texts: the first text encoder's; None for an embedding without a text.
        second: the argument ``prompt_2`` or ``negative_prompt_2``.
    """
    seconds = [second] * len(texts) if isinstance(second, str) else second
    if not second or not _are_texts(seconds) or len(seconds) != len(texts):
        return [None] * len(texts)
    return [
        None if text is None or other == text else other
        for text, other in zip(texts, seconds, strict=True)
    ]


def _are_texts(texts: Any) -> bool:
    return (
        isinstance(texts, Sequence) and bool(texts) and all(isinstance(text, str) for text in texts)
    )


def _range(indices: Iterable[int]) -> tuple[int, int] | None:
    """The first index and one past the last, of indices without a gap; None for others."""
    numbers = list(indices)
    if not numbers or numbers != list(range(numbers[0], numbers[-1] + 1)):
        return None
    return (numbers[0], numbers[-1] + 1)


class TextTracker:
    """Follows from call to call whether the prompt's embedding is still the same.

    Tensors are compared by identity first, because a pipeline passes one tensor in every step; else
    by their sums along both axes, which waits for the device. Nothing is copied: the text of a
    large encoder takes more memory than an image's maps.
    """

    def __init__(self) -> None:
        self._known: list[_KnownText] = []
        self._last: tuple[Any, ...] | None = None
        self._index = 0

    def rows_of(self, index: int) -> Tensor | None:
        """The embedding of a text, of the prompt's rows.

        None where there is no such text, or where it was changed in place since it was seen.
        """
        if not 0 <= index < len(self._known):
            return None
        known = self._known[index]
        if known.version is not None and known.version == _version(known.rows):
            return known.rows
        return known.rows if _same_sums(known.sums, _sums(known.rows)) else None

    def index_of(self, states: Tensor, rows: Tensor) -> int:
        """The number of the call's text, from 0 in the order of their first call.

        Args:
            states: the denoiser's encoder states.
            rows: their conditional rows.
        """
        # The tensor itself is kept, because the id of a dead object may be used again.
        now = (states, _version(states), rows.shape)
        last = self._last
        if last is not None and last[0] is states and last[1:] == now[1:] and now[1] is not None:
            return self._index
        self._last = now
        sums = _sums(rows)
        for index, known in enumerate(self._known):
            if known.rows.shape == rows.shape and _same_sums(known.sums, sums):
                self._index = index
                return index
        self._known.append(_KnownText(rows.detach(), _version(rows), sums))
        self._index = len(self._known) - 1
        return self._index


@dataclass(frozen=True, eq=False)
class _KnownText:
    rows: Tensor
    version: int | None
    sums: tuple[Tensor, ...]


def _sums(rows: Tensor) -> tuple[Tensor, ...]:
    """The sums of an embedding's rows along each of its last two axes, in float64."""
    rows = rows.detach()
    wide = torch.float32 if rows.device.type == "mps" else torch.float64
    return rows.sum(dim=-1, dtype=wide), rows.sum(dim=-2, dtype=wide)


def _same_sums(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b.to(a.device)) for a, b in zip(one, other, strict=True))


def _version(tensor: Tensor) -> int | None:
    """The number of in-place changes; None where torch does not count them."""
    return None if tensor.is_inference() else tensor._version
