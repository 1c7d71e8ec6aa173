"""Weighted prompts as people write them: ``(cat:1.3)``, ``((cat))``, ``cat++``, ``BREAK``.

Tools that turn weights into embeddings encode the text without them. Two syntaxes are in use: of
the web interface of Automatic1111, and of the library compel. diffusers itself knows none, so only
a text that is given along with an embedding is read so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from diffusers_rdaam.attribution.word_spans import word_spans

# What compel joins with .and() is encoded in parts, each of them quoted.
_JOINED = re.compile(r"""\s*\(\s*(?P<parts>["'].*["'])\s*,?\s*\)\s*\.and\([^()]*\)\s*""", re.DOTALL)
_QUOTED = re.compile(r"""\s*(["'])((?:\\.|(?!\1).)*)\1\s*(?:,|$)""", re.DOTALL)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_ESCAPED = re.compile(r"\\([()\[\]{}\\\"'+-])")
_WEIGHT_AND_BRACKET = re.compile(rf"\s*:\s*{_NUMBER}\s*(?=[)\]])")
_SIGNS = re.compile(r"\++|-+")
_NUMBER_AFTER = re.compile(rf"{_NUMBER}(?![\w.])")
_MARKED = re.compile(
    rf":\s*{_NUMBER}\s*\)|\){_NUMBER}|[\w)]\+|\w--(?!\w)|\)-"
    r"|\bBREAK\b|\.and\(|\\[()]"
)


@dataclass(frozen=True)
class Syntax:
    """Which marks of a text are weights.

    Args:
        square: square brackets, as with Automatic1111.
        signs: plus and minus after a word or bracket, and numbers after a bracket, as with compel.
    """

    square: bool = True
    signs: bool = True


SYNTAXES = (Syntax(), Syntax(signs=False), Syntax(square=False))


def has_weights(text: str) -> bool:
    """True if a text has marks that are hardly written but as weights; brackets alone are not."""
    return _MARKED.search(text) is not None


def readings(text: str) -> list[list[str]]:
    """The parts that a weighted text may be encoded in, without the weights.

    They are other texts than the given one; none where it has no weights.
    """
    found: list[list[str]] = []
    for syntax in SYNTAXES:
        parts = [without_weights(part, syntax) for part in _parts(text)]
        if parts != [text] and parts not in found:
            found.append(parts)
    return found


def _parts(text: str) -> list[str]:
    joined = _JOINED.fullmatch(text)
    if joined is not None:
        return [match[2] for match in _QUOTED.finditer(joined["parts"])]
    return _BREAK.split(text)


def without_weights(text: str, syntax: Syntax) -> str:
    """The text that is encoded: no brackets, no weights, what was escaped as itself.

    Args:
        text: one part.
        syntax: what of it is weights.
    """
    pieces = [""]
    place, closed = 0, False
    brackets = "()[]" if syntax.square else "()"
    while place < len(text):
        escaped = _ESCAPED.match(text, place)
        weight = _WEIGHT_AND_BRACKET.match(text, place)
        after = _weight_after(text, place, closed) if syntax.signs else place
        closed = False
        if escaped is not None:
            pieces[-1] += escaped[1]
            place = escaped.end()
        elif weight is not None:
            place = weight.end()
        elif after > place:
            pieces.append("")
            place = after
        elif text[place] in brackets:
            closed = text[place] == ")"
            # What is in brackets is tokenized by itself.
            pieces.append("")
            place += 1
        else:
            pieces[-1] += text[place]
            place += 1
    return _spaced(pieces)


def _weight_after(text: str, place: int, closed: bool) -> int:
    """Where a weight ends that begins there, behind a word or a bracket; the place if none does."""
    signs = _SIGNS.match(text, place)
    if signs is not None:
        behind = place > 0 and (text[place - 1].isalnum() or closed)
        # One hyphen, and any within a word, belongs to the text.
        ends = signs.end() == len(text) or not text[signs.end()].isalnum()
        wanted = closed or signs[0] != "-"
        return signs.end() if behind and ends and wanted else place
    number = _NUMBER_AFTER.match(text, place) if closed else None
    return place if number is None else number.end()


def _spaced(pieces: list[str]) -> str:
    """The pieces, with a space between two that would become one word."""
    whole = ""
    for piece in pieces:
        both = whole[-1:] + piece[:1]
        if len(both) == 2 and len(word_spans(both)) == 1 and word_spans(both)[0] == (0, 2):
            whole += " "
        whole += piece
    return whole
