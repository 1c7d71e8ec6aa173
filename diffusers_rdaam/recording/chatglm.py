"""Columns of Kolors' text encoder: ChatGLM's SentencePiece tokens, padded on the left.

Its tokenizer is a slow one without offsets, so the pieces are laid along the text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def is_chatglm(tokenizer: Any) -> bool:
    """Whether it is diffusers' tokenizer for Kolors, or one derived from it."""
    return any(base.__name__ == "ChatGLMTokenizer" for base in type(tokenizer).__mro__)


def align_chatglm(tokenizer: Any, text: str, columns: int) -> Prompt:
    """The prompt whose tokens are the columns of a text embedding of Kolors.

    Padding comes first, then two start tokens, then the text; there is no end token, and a text
    that is too long loses its end.

    Args:
        tokenizer: ``ChatGLMTokenizer``.
        text: what was tokenized.
        columns: length of the embedding, 256 unless ``encode_prompt`` was told another.

    Raises:
        InputError: the pieces do not spell the text.
    """
    pieces = tokenizer.tokenize(text)
    spans = spans_of_pieces(text, pieces)
    starts = len(tokenizer(text).input_ids) - len(pieces)
    kept = max(0, min(len(pieces), columns - starts))
    names = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids[:starts])
    padding = columns - starts - kept
    tokens = [Token(column, tokenizer.pad_token, "padding") for column in range(padding)]
    tokens += [Token(padding + index, name, "start") for index, name in enumerate(names)]
    for piece, (start, end) in list(zip(pieces, spans, strict=True))[:kept]:
        tokens.append(Token(len(tokens), piece.replace(_SPACE, ""), "text", start, end))
    return Prompt(text, tuple(tokens))


def spans_of_pieces(text: str, pieces: list[str]) -> list[tuple[int, int]]:
    """The characters that each SentencePiece piece stands for; none for a lone space.

    A piece may hold compatible characters for the text's (NFKC), and bytes of one that the
    vocabulary lacks: each of those bytes stands for the whole character.

    Args:
        text: what was tokenized.
        pieces: in order, spaces written as U+2581 and bytes as ``<0x..>``.

    Raises:
        InputError: the pieces do not spell the text.
    """
    letters = [
        (letter, index)
        for index, character in enumerate(text)
        for letter in unicodedata.normalize("NFKC", character)
        if not letter.isspace()
    ]
    # Bytes are counted, so that a piece may be part of a character.
    owners = [index for letter, index in letters for _ in letter.encode()]
    whole = b"".join(letter.encode() for letter, _ in letters)
    spans: list[tuple[int, int]] = []
    place = 0
    for piece in pieces:
        spelt = _spelling(piece)
        if whole[place : place + len(spelt)] != spelt:
            raise InputError(
                f"The tokenizer wrote {piece!r} where the text {text!r} goes on otherwise, so its "
                "words cannot be found. Ask for columns by number with attribution.column(index)."
            )
        reach = owners[place : place + len(spelt)]
        last = spans[-1][1] if spans else 0
        spans.append((reach[0], reach[-1] + 1) if reach else (last, last))
        place += len(spelt)
    if place != len(whole):
        rest = text[owners[place] :]
        raise InputError(
            f"The tokenizer's pieces end before {rest!r} of the text {text!r}, so its words cannot "
            "be found. Ask for columns by number with attribution.column(index)."
        )
    return spans


def _spelling(piece: str) -> bytes:
    """What a piece says in UTF-8, without spaces."""
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes.fromhex(byte[1]).strip()
    letters = unicodedata.normalize("NFKC", piece.replace(_SPACE, ""))
    return "".join(letters.split()).encode()
