"""From the columns of each text encoder to one Prompt: a word owns its columns in all of them."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.encoder_columns import EncoderColumns

REST = "(rest)"
_Places = list[tuple[EncoderColumns, Piece] | None]


def prompt_columns(encoders: Sequence[EncoderColumns]) -> tuple[int, ...]:
    """The columns of the embedding that stand for characters of the prompt, in order."""
    return tuple(
        sorted(
            {
                one.start + index
                for one in encoders
                for index, piece in enumerate(one.pieces)
                if piece.kind == "text"
            }
        )
    )


def prompt_from(
    encoders: Sequence[EncoderColumns], *, columns: Sequence[int] | None = None
) -> Prompt:
    """The prompt whose tokens are columns of a text embedding.

    Encoders that were given the same text have one text with one set of words. Another text's words
    come after them, and a column of its encoder belongs to no word of the first text.

    Args:
        encoders: in the order of the texts; the first one's text is the prompt.
        columns: those of the embedding that the maps have, in their order, and then one for all
            the rest; every column of the embedding if not given.

    Raises:
        InputError: there is no such column, or no encoder.
    """
    if not encoders:
        raise InputError("A prompt has the columns of one text encoder at least; there are none.")
    total = max(one.end for one in encoders)
    wrong = [column for column in columns or () if not 0 <= column < total]
    if wrong:
        raise InputError(f"The text embedding has {total} columns; {wrong[0]} is not one of them.")
    first, *others = (
        _of_text(text, [one for one in encoders if one.text == text], total, encoders, columns)
        for text in dict.fromkeys(one.text for one in encoders)
    )
    return Prompt(first.text, first.tokens, first.cut, tuple(others))


def _of_text(
    text: str,
    readers: Sequence[EncoderColumns],
    total: int,
    encoders: Sequence[EncoderColumns],
    columns: Sequence[int] | None,
) -> Prompt:
    """One of the texts, and the tokens of the encoders that read it."""
    named = len({one.name for one in encoders}) > 1
    places: _Places = [None] * total
    for one in readers:
        for column, piece in enumerate(one.pieces, one.start):
            before = places[column]
            # Side by side: two encoders of the same text, of which one may have read more.
            if before is None or (piece.kind == "text" and before[1].kind != "text"):
                places[column] = (one, piece)
    chosen = range(total) if columns is None else columns
    tokens = [
        _token(index, column, places[column], named=named) for index, column in enumerate(chosen)
    ]
    if columns is not None:
        tokens.append(Token(len(tokens), REST, "rest"))
    return Prompt(text, tuple(tokens), _cut(readers))


def _token(
    index: int, column: int, place: tuple[EncoderColumns, Piece] | None, *, named: bool
) -> Token:
    position = None if index == column else column
    if place is None:
        return Token(index, "", "rest", position=position)
    one, piece = place
    name = one.name if named else None
    return Token(index, piece.text, piece.kind, piece.start, piece.end, name, position)


def _cut(readers: Sequence[EncoderColumns]) -> tuple[tuple[int, int], ...]:
    """The characters that none of the encoders was given."""
    if not all(one.cut for one in readers):
        return ()
    if len(readers) == 1:
        return readers[0].cut
    lost = [{at for start, end in one.cut for at in range(start, end)} for one in readers]
    return tuple((at, at + 1) for at in sorted(set.intersection(*lost)))
