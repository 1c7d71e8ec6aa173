"""Pieces laid into the columns of a text embedding: cut, padded, and dropped as pipelines do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoded_text import encoded, padding_of, text_spans
from diffusers_rdaam.tokens.encoder_columns import EncoderColumns
from diffusers_rdaam.tokens.given_text import GivenText, Place


@dataclass(frozen=True)
class Reader:
    """A text encoder of a pipeline.

    Args:
        name: what a user asks by, such as ``"t5"``.
        encoder, tokenizer: the pipeline's attributes.
    """

    name: str
    encoder: str = "text_encoder"
    tokenizer: str = "tokenizer"

    def tokenizer_of(self, pipe: Any) -> Any:
        """The tokenizer; of a processor the one in it.

        Raises:
            InputError: the pipeline has none.
        """
        found = getattr(pipe, self.tokenizer, None)
        if found is None:
            raise InputError(
                f"{type(pipe).__name__} has no {self.tokenizer}, so the words of the prompt cannot "
                "be found. Load it, or ask for columns by number with attribution.column(index)."
            )
        return getattr(found, "tokenizer", found)

    def columns(
        self,
        text: GivenText,
        argument: str,
        pieces: Sequence[Piece],
        *,
        whole: Sequence[Piece],
        start: int = 0,
        left_cut: bool = False,
    ) -> EncoderColumns:
        """The columns of this encoder.

        Args:
            text: what it is given.
            argument: of the call.
            pieces: one for each column.
            whole: the pieces of all of the text, of which some may have been cut.
            start: the first column.
            left_cut: whether the beginning was cut, not the end.
        """
        kept, wanted = text_spans(pieces), text_spans(whole)
        lost = wanted[: len(wanted) - len(kept)] if left_cut else wanted[len(kept) :]
        cut: tuple[Place, ...] = tuple(lost)
        return EncoderColumns(
            self.encoder, self.name, text.written, argument, tuple(pieces), start, cut
        )


def fitted(pieces: Sequence[Piece], columns: int, padding: Piece, *, left: bool) -> list[Piece]:
    """The pieces in so many columns, padded where they are fewer.

    Args:
        pieces: of a text.
        columns: how many there are.
        padding: what fills them.
        left: whether padding comes first.

    Raises:
        InputError: there are more pieces than columns.
    """
    room = columns - len(pieces)
    if room < 0:
        raise InputError(
            f"The text has {len(pieces)} tokens and its text embedding {columns} columns, which it "
            "does not fit into. Give the text that the embedding was made from."
        )
    return [padding] * room + [*pieces] if left else [*pieces] + [padding] * room


def padded(
    pipe: Any,
    reader: Reader,
    text: GivenText,
    argument: str,
    columns: int,
    *,
    start: int = 0,
    drop: int = 0,
    **options: Any,
) -> EncoderColumns:
    """The text, cut to the columns and padded to them.

    Args:
        pipe: the pipeline.
        reader: its text encoder.
        text: what it is given.
        argument: of the call.
        columns: that the encoder makes.
        start: the first of them.
        drop: tokens of a template that the pipeline leaves out, at the beginning.
        options: of the tokenizer's call.

    Raises:
        InputError: as :func:`~diffusers_rdaam.tokens.encoded_text.encoded`.
    """
    tokenizer = reader.tokenizer_of(pipe)
    options = {"max_length": columns + drop, **options}
    pieces = encoded(tokenizer, text, truncation=True, **options)
    left = getattr(tokenizer, "padding_side", "right") == "left"
    filled = fitted(pieces, max(columns + drop, len(pieces)), padding_of(tokenizer), left=left)
    kept = filled[drop:][:columns]
    whole = encoded(tokenizer, text, **_unlimited(options))
    left_cut = getattr(tokenizer, "truncation_side", "right") == "left"
    return reader.columns(text, argument, kept, whole=whole, start=start, left_cut=left_cut)


def valid(
    pipe: Any,
    reader: Reader,
    text: GivenText,
    argument: str,
    columns: int,
    *,
    length: int | None,
    drop: int = 0,
    left: bool | None = None,
    **options: Any,
) -> EncoderColumns:
    """The text's tokens without padding, and padding behind them where a batch has longer texts.

    Args:
        pipe, reader, text, argument, columns: as in :func:`padded`.
        length: what the tokenizer cuts to, dropped tokens included; None for its own length.
        drop: tokens of a template that the pipeline leaves out.
        left: whether padding comes first; as the tokenizer has it if not given.
        options: of the tokenizer's call.

    Raises:
        InputError: there are more tokens than columns.
    """
    tokenizer = reader.tokenizer_of(pipe)
    limit = {} if length is None else {"max_length": length}
    pieces = encoded(tokenizer, text, truncation=True, **limit, **options)[drop:]
    if left is None:
        left = getattr(tokenizer, "padding_side", "right") == "left"
    kept = fitted(pieces, columns, padding_of(tokenizer), left=left)
    whole = encoded(tokenizer, text, **options)
    return reader.columns(text, argument, kept, whole=whole)


def _unlimited(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "max_length"}
