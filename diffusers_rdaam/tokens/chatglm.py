"""Columns of Kolors' text encoder: ChatGLM's SentencePiece tokens, padded on the left.

Its tokenizer is a slow one without offsets, so the pieces are laid along the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import Any

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError

# What Kolors pads its prompts to, unless its encode_prompt is given another length.
CHATGLM_COLUMNS = 256
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
# A cluster's bytes, each part with the characters that it stands for.
_Spelling = list[tuple[bytes, tuple[int, int]]]
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
        columns: length of the embedding, 256 unless ``encode_prompt`` was given another.

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
    return Prompt(text, tuple(tokens), cut=tuple(spans[kept:]))


def spans_of_pieces(text: str, pieces: list[str]) -> list[tuple[int, int]]:
    """The characters that each SentencePiece piece stands for; none for a lone space.

    A character may be spelt as itself or as what it is compatible with (NFKC), alone or together
    with its marks, and as bytes where the vocabulary lacks it: each of those bytes stands for the
    whole character.

    Args:
        text: what was tokenized.
        pieces: in order, spaces written as U+2581 and bytes as ``<0x..>``.

    Raises:
        InputError: the pieces do not spell the text.
    """
    spelt = [_spelling(piece) for piece in pieces]
    owners = _owners(text, b"".join(spelt), pieces, spelt)
    spans: list[tuple[int, int]] = []
    place = 0
    for part in spelt:
        reach = owners[place : place + len(part)]
        last = spans[-1][1] if spans else 0
        spans.append((reach[0][0], reach[-1][1]) if reach else (last, last))
        place += len(part)
    return spans


def _owners(
    text: str, whole: bytes, pieces: list[str], spelt: list[bytes]
) -> list[tuple[int, int]]:
    """The characters that each byte of the pieces belongs to."""
    clusters = list(_clusters(text))
    # For each cluster the places in the bytes that are reached, and where each came from.
    steps: list[dict[int, tuple[int, _Spelling]]] = []
    places: Collection[int] = [0]
    for start, end in clusters:
        step: dict[int, tuple[int, _Spelling]] = {}
        for place in places:
            for spelling in _spellings(text, start, end):
                letters = b"".join(letters for letters, _ in spelling)
                if whole.startswith(letters, place):
                    step.setdefault(place + len(letters), (place, spelling))
        if not step:
            raise _misspelt(text, start, max(places), whole, pieces, spelt)
        steps.append(step)
        places = step
    place = len(whole)
    if place not in places:
        raise _misspelt(text, len(text), max(places), whole, pieces, spelt)
    owners: list[tuple[int, int]] = []
    for step in reversed(steps):
        place, spelling = step[place]
        owners += [span for letters, span in reversed(spelling) for _ in letters]
    return owners[::-1]


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Characters with the marks behind them, which NFKC may make one."""
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or not unicodedata.combining(text[index]):
            yield start, index
            start = index


def _spellings(text: str, start: int, end: int) -> Iterator[_Spelling]:
    """What a cluster may be spelt as: bytes, and the characters that they stand for."""
    singly = [(text[i], (i, i + 1)) for i in range(start, end)]
    compatible = [(unicodedata.normalize("NFKC", letter), span) for letter, span in singly]
    together = [(unicodedata.normalize("NFKC", text[start:end]), (start, end))]
    for spelling in (compatible, singly, together):
        yield [("".join(letters.split()).encode(), span) for letters, span in spelling]
    # Another space than the usual one may be bytes, too.
    yield [(letter.strip(" \t\n\r").encode(), span) for letter, span in singly]


def _misspelt(
    text: str, start: int, place: int, whole: bytes, pieces: list[str], spelt: list[bytes]
) -> InputError:
    if place == len(whole):
        return InputError(
            f"The tokenizer's pieces end before {text[start:].lstrip()!r} of the text {text!r}, so "
            "its words cannot be found. Ask for columns by number with attribution.column(index)."
        )
    ends = accumulate(map(len, spelt))
    index = next(index for index, end in enumerate(ends) if end > place)
    return InputError(
        f"The tokenizer wrote {pieces[index]!r} where the text {text!r} goes on otherwise, so its "
        "words cannot be found. Ask for columns by number with attribution.column(index)."
    )


def _spelling(piece: str) -> bytes:
    """What a piece says in UTF-8, without spaces."""
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        return bytes.fromhex(byte[1]).strip()
    return "".join(piece.replace(_SPACE, "").split()).encode()
