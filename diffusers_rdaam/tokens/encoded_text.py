"""The pieces of a text as a pipeline has it tokenized: the same call, with character offsets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from diffusers_rdaam.attribution.prompt import TokenKind
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.column_layouts import Piece
from diffusers_rdaam.tokens.given_text import GivenText, Place

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
# How byte-level tokenizers write a space.
_BYTE_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"


def encoded(tokenizer: Any, text: GivenText, **options: Any) -> tuple[Piece, ...]:
    """Tokenize a text as a pipeline does: a piece for each input id, in order.

    Args:
        tokenizer: of transformers; with offsets, or ByT5's.
        text: what it is given.
        options: of the pipeline's call, such as ``max_length`` and ``truncation``.

    Raises:
        InputError: the tokenizer gives no character offsets.
    """
    return tuple(_pieces(tokenizer, text, options))


def text_spans(pieces: Iterable[Piece]) -> list[Place]:
    """The characters of each piece that stands for some of the user's text."""
    return [
        (piece.start, piece.end)
        for piece in pieces
        if piece.start is not None and piece.end is not None
    ]


def padding_of(tokenizer: Any) -> Piece:
    """The piece that fills a text embedding; the end token where a tokenizer has no padding."""
    name, index = tokenizer.pad_token, tokenizer.pad_token_id
    if name is None:
        name, index = tokenizer.eos_token or "", tokenizer.eos_token_id or 0
    return Piece(index, name, "padding")


def _pieces(tokenizer: Any, text: GivenText, options: dict[str, Any]) -> list[Piece]:
    if _is_byt5(tokenizer):
        return _byte_pieces(tokenizer, text, options)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, so words cannot be found. "
            "Load the pipeline's tokenizer with transformers 5 or as its Fast class."
        )
    found = tokenizer(
        text.given,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=True,
        verbose=False,
        **options,
    )
    names = tokenizer.convert_ids_to_tokens(found.input_ids)
    kinds = _kinds(tokenizer, found.special_tokens_mask, found.attention_mask, options)
    spans = _character_spans(text.given, names, found.offset_mapping)
    rows = zip(found.input_ids, names, kinds, spans, strict=True)
    is_byte_level = "ByteLevel" in type(tokenizer.backend_tokenizer.decoder).__name__
    return [
        _piece(text, index, name, kind, span, is_byte_level=is_byte_level)
        for index, name, kind, span in rows
    ]


def _kinds(
    tokenizer: Any, special: Sequence[int], attended: Sequence[int], options: dict[str, Any]
) -> list[TokenKind]:
    """What each token is, those of the text itself as ``"text"``."""
    starts = _count_of_starts(tokenizer, options) if any(special) else 0
    kinds: list[TokenKind] = []
    for is_special, is_attended in zip(special, attended, strict=True):
        if not is_attended:
            kinds.append("padding")
        elif not is_special:
            kinds.append("text")
        elif starts > 0:
            kinds.append("start")
            starts -= 1
        else:
            kinds.append("end")
    return kinds


def _count_of_starts(tokenizer: Any, options: dict[str, Any]) -> int:
    """How many special tokens come before a text, which shows only with one."""
    adds = options.get("add_special_tokens", True)
    probe = tokenizer("a", add_special_tokens=adds, return_special_tokens_mask=True)
    mask = list(probe.special_tokens_mask)
    return mask.index(0) if 0 in mask else 0


def _character_spans(text: str, names: Sequence[str], offsets: Sequence[Place]) -> list[Place]:
    """The offsets; of the bytes of one character each has that character.

    A piece that is only the space before a word has none of the word's characters.
    """
    spans = [(start, end) for start, end in offsets]
    for index, name in enumerate(names):
        start, end = spans[index]
        part = text[start:end]
        if name == _SPACE and _SPACE not in part and not part.isspace():
            spans[index] = (start, start)
    return spans


def _piece(
    text: GivenText, index: int, name: str, kind: TokenKind, span: Place, *, is_byte_level: bool
) -> Piece:
    if kind != "text":
        return Piece(index, name, kind)
    place = text.span_of(*span)
    shown = name.removesuffix("</w>").replace(_SPACE, "").replace(_BYTE_SPACE, "")
    if place is None and span[0] == span[1]:
        # A space that the tokenizer has put before a text stands for none of its characters.
        place = text.span_of(max(span[0] - 1, 0), span[1] + 1)
        place = None if place is None else (place[0], place[0])
    if place is None:
        return Piece(index, shown, "template")
    if is_byte_level and not shown.isascii():
        # Bytes that are written as letters say nothing to a reader.
        shown = text.written[slice(*place)]
    return Piece(index, shown, "text", *place)


def _is_byt5(tokenizer: Any) -> bool:
    return any(base.__name__ == "ByT5Tokenizer" for base in type(tokenizer).__mro__)


def _byte_pieces(tokenizer: Any, text: GivenText, options: dict[str, Any]) -> list[Piece]:
    """ByT5's pieces: a token for each byte of UTF-8, and an end token."""
    ids = list(tokenizer(text.given, verbose=False, **options).input_ids)
    owners = [
        (index, byte) for index, letter in enumerate(text.given) for byte in letter.encode("utf-8")
    ]
    first = tokenizer.convert_tokens_to_ids(chr(0))
    pieces: list[Piece] = []
    for index, found in enumerate(ids):
        if index < len(owners) and found == owners[index][1] + first:
            at = owners[index][0]
            pieces.append(
                _piece(text, found, text.given[at], "text", (at, at + 1), is_byte_level=False)
            )
        elif found == tokenizer.eos_token_id and index == min(len(owners), index):
            pieces.append(Piece(found, tokenizer.eos_token, "end"))
        elif found == tokenizer.pad_token_id and index > len(owners):
            pieces.append(Piece(found, tokenizer.pad_token, "padding"))
        else:
            raise InputError(
                f"{type(tokenizer).__name__} wrote other tokens than the bytes of the text "
                f"{text.given!r:.100}, so its words cannot be found."
            )
    return pieces
