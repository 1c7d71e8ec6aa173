"""The words of a text, found by Unicode categories; whether a span is whole words.

Tokenizers do not agree on words, so words are found in the text and tokens are joined to them by
character spans.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{VARIATION SELECTOR-16}"
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
# Letters by category, but part of the kana before them.
_KANA_MARKS = (
    "\N{HALFWIDTH KATAKANA VOICED SOUND MARK}\N{HALFWIDTH KATAKANA SEMI-VOICED SOUND MARK}"
)
# Scripts that are written without spaces: only the tokens divide a run of their characters.
_UNSPACED = (
    "CJK",
    "IDEOGRAPHIC",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "BOPOMOFO",
    "YI SYLLABLE",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TAI ",
    "NEW TAI",
    "JAVANESE",
    "BALINESE",
)
# Hangul has spaces, but a part of its words may be asked for all the same.
_DIVISIBLE = (*_UNSPACED, "HANGUL")
# Signs that put the next letter below the one before.
_STACKERS = (
    "\N{KHMER SIGN COENG}\N{MYANMAR SIGN VIRAMA}\N{BALINESE ADEG ADEG}\N{JAVANESE PANGKON}"
    "\N{TAI THAM SIGN SAKOT}"
)


class _Kinds(dict[int, str]):
    """The kind of each code point, found when it is first met: what ``str.translate`` asks for.

    ``l`` is a letter or digit, ``m`` a mark or joiner, ``s`` a symbol, ``'`` an apostrophe.
    """

    def __missing__(self, point: int) -> str:
        character = chr(point)
        category = unicodedata.category(character)
        if character in _APOSTROPHES:
            kind = "'"
        elif character in _SKIN_TONES:
            kind = "s"
        elif category[0] == "M" or character in _JOINERS:
            kind = "m"
        else:
            kind = "l" if category[0] in "LN" else "s" if category == "So" else " "
        self[point] = kind
        return kind


_KINDS = _Kinds()
# Joiners, selectors, marks and skin tones stay with the emoji that they change.
_WORD = re.compile(r"s[sm]*|[lm]+(?:'[lm]+)*")


def _is_letter(character: str) -> bool:
    return character.translate(_KINDS) in "lm"


def word_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the words: runs of letters, digits and marks, or of symbols such as emoji.

    An apostrophe between letters belongs to the word (``dog's``, ``don't``); a hyphen divides, and
    so does the underscore of tags (``blue_eyes``). Punctuation is not a word. A sentence of a
    script without spaces is one run.
    """
    return [match.span() for match in _WORD.finditer(text.translate(_KINDS))]


def is_unspaced(character: str) -> bool:
    """True for a character of a script that is written without spaces between words."""
    return not character.isascii() and unicodedata.name(character, "").startswith(_UNSPACED)


def script_runs(text: str, span: tuple[int, int]) -> list[tuple[int, int, bool]]:
    """A word's runs of scripts without spaces and of others: start, end, and whether it is one.

    Marks and joiners stay in the run before them.
    """
    start, end = span
    if text[start:end].isascii():
        return [(start, end, False)]
    runs: list[tuple[int, int, bool]] = []
    for i in range(start, end):
        unspaced = is_unspaced(text[i])
        if runs and (runs[-1][2] == unspaced or not is_border(text, i)):
            runs[-1] = (runs[-1][0], i + 1, runs[-1][2])
        else:
            runs.append((i, i + 1, unspaced))
    return runs


def is_border(text: str, place: int) -> bool:
    """True if a character begins there, not a mark of the one before or the rest of a cluster."""
    if place <= 0 or place >= len(text):
        return True
    before, after = text[place - 1], text[place]
    return not (_is_mark(after) or before in _JOINERS or before in _STACKERS)


def _is_mark(character: str) -> bool:
    return (
        unicodedata.category(character)[0] == "M"
        or character in _JOINERS
        or character in _KANA_MARKS
    )


def _joined(before: str, after: str) -> bool:
    """Whether two neighbours are of one letter, emoji or word, so that no word ends between."""
    if before.isascii() and after.isascii():
        return before.isalnum() and after.isalnum()
    if after in _SKIN_TONES or before in _JOINERS or after in _JOINERS:
        return True
    letters = _is_letter(before) and _is_letter(after)
    if not is_border(before + after, 1):
        return letters
    return letters and not any(
        unicodedata.name(character, "").startswith(_DIVISIBLE) for character in (before, after)
    )


def find_phrase(text: str, phrase: str, borders: Collection[int] = ()) -> list[tuple[int, int]]:
    """Spans where ``phrase`` stands in ``text`` as whole words.

    Letter case does not matter, nor how much space is between the words, nor whether accents are
    composed; an underscore between words is a space (``blue eyes`` is found in ``blue_eyes``).
    ``cat`` is not found inside ``scat``, but in ``cat's`` and ``cat-like``.

    Args:
        text, phrase: what is searched, and what for.
        borders: places where a word ends, whatever the characters around are.
    """
    parts = re.split(r"(?<=[^\s_])[\s_]+(?=[^\s_])", phrase.strip())
    if parts == [""]:
        return []
    letters, places = _folded(text)
    # Without consuming it: a match that is refused may hide the beginning of one that is right.
    pattern = r"[\s_]+".join(re.escape(_folded(part)[0]) for part in parts)
    spans: list[tuple[int, int]] = []
    for match in re.finditer(f"(?=({pattern}))", letters):
        first, last = match.span(1)
        start, end = places[first], places[last]
        divided = (first > 0 and places[first - 1] == start) or places[last - 1] == end
        if not (
            divided
            or (spans and start < spans[-1][1])
            or _within_word(text, start, borders)
            or _within_word(text, end, borders)
        ):
            spans.append((start, end))
    return spans


def _within_word(text: str, place: int, borders: Collection[int]) -> bool:
    inside = 0 < place < len(text) and place not in borders
    return inside and _joined(text[place - 1], text[place])


def _folded(text: str) -> tuple[str, list[int] | range]:
    """The text without case and decomposed; for each character of that, and for the end, where it
    is from."""
    if text.isascii():
        return text.casefold(), range(len(text) + 1)
    # One by one: some become several.
    letters = [unicodedata.normalize("NFD", character.casefold()) for character in text]
    places = [i for i, letter in enumerate(letters) for _ in letter] + [len(text)]
    return "".join(letters), places
