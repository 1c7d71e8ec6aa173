"""Where the words of a text are, by Unicode categories; and whether a span is whole words.

Tokenizers do not agree on words, so words are found in the text and tokens are joined to them by
character spans.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{VARIATION SELECTOR-16}"
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))
# Scripts that are written without spaces: any run of their characters may be asked for.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LNM" or character == "_" or character in _JOINERS:
        return "letter"
    return "symbol" if category == "So" or character in _SKIN_TONES else ""


def word_spans(text: str) -> list[tuple[int, int]]:
    """Spans of the words: runs of letters, digits and marks, or of symbols such as emoji.

    An apostrophe between letters belongs to the word (``dog's``, ``don't``); a hyphen divides.
    Punctuation is no word.
    """
    kinds = [_kind(character) for character in text]
    for i in range(1, len(text) - 1):
        if text[i] in _APOSTROPHES and kinds[i - 1] == kinds[i + 1] == "letter":
            kinds[i] = "letter"
    for i in range(1, len(text)):
        # Joiners, selectors, marks and skin tones stay with the emoji that they change.
        mark = unicodedata.category(text[i])[0] == "M" or text[i] in _JOINERS
        if kinds[i - 1] == "symbol" and (mark or kinds[i] == "symbol"):
            kinds[i] = "symbol"
    spans: list[tuple[int, int]] = []
    for i, kind in enumerate(kinds):
        if kind and i and kinds[i - 1] == kind:
            spans[-1] = (spans[-1][0], i + 1)
        elif kind:
            spans.append((i, i + 1))
    return spans


def _joined(before: str, after: str) -> bool:
    """Whether two neighbours are of one letter, emoji or word, so that no word ends between."""
    if after in _SKIN_TONES or before in _JOINERS or after in _JOINERS:
        return True
    for character in (before, after):
        name = unicodedata.name(character, "")
        if _kind(character) != "letter" or name.startswith(_UNSPACED):
            return False
    return True


def find_phrase(text: str, phrase: str) -> list[tuple[int, int]]:
    """Spans where ``phrase`` stands in ``text`` as whole words.

    Letter case does not matter, nor how much space is between the words, nor whether accents are
    composed. ``cat`` is not found inside ``scat``, but in ``cat's`` and ``cat-like``.
    """
    parts = ["".join(_folded(part)) for part in phrase.split()]
    if not parts:
        return []
    letters = _folded(text)
    # Where in the text each folded character is from, and the text's end.
    places = [i for i, letter in enumerate(letters) for _ in letter] + [len(text)]
    spans = []
    for match in re.finditer(r"\s+".join(map(re.escape, parts)), "".join(letters)):
        first, last = match.start(), match.end()
        start, end = places[first], places[last]
        divided = (first > 0 and places[first - 1] == start) or places[last - 1] == end
        if not (
            divided
            or (start > 0 and _joined(text[start - 1], text[start]))
            or (end < len(text) and _joined(text[end - 1], text[end]))
        ):
            spans.append((start, end))
    return spans


def _folded(text: str) -> list[str]:
    """Each character without case and decomposed; some become several."""
    return [unicodedata.normalize("NFD", character.casefold()) for character in text]
