"""Where the words of a text are, by Unicode categories; and whether a span is whole words.

Tokenizers do not agree on words, so words are found in the text and tokens are joined to them by
character spans.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{VARIATION SELECTOR-16}"
# Scripts that are written without spaces: any run of their characters may be asked for.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LNM" or character == "_" or character in _JOINERS:
        return "letter"
    return "symbol" if category in ("So", "Sk") else ""


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
    """Whether two neighbours are letters of one word, so that no word ends between them."""
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
    parts = phrase.split()
    if not parts:
        return []
    for form in (None, "NFC", "NFD"):
        written = parts if form is None else [unicodedata.normalize(form, part) for part in parts]
        pattern = r"\s+".join(re.escape(part) for part in written)
        spans = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
        whole = [
            (start, end)
            for start, end in spans
            if not (start > 0 and _joined(text[start - 1], text[start]))
            and not (end < len(text) and _joined(text[end - 1], text[end]))
        ]
        if whole:
            return whole
    return []
