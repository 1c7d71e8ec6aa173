"""Names of files that are made of words: safe on every file system, and no two the same.

A word may be anybody's: a path, a device of Windows, a sentence without spaces, an emoji, or text
that only looks like another. A name keeps letters, marks, numbers and symbols of all scripts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST = 120  # bytes of a whole name; file systems take 255, and backups add to names
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{device}{number}" for device in ("COM", "LPT") for number in "0123456789¹²³"
}
# Letters and marks that show nothing: fillers, joiners and selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")


def readable(text: str, *, other: str = "-") -> str:
    """The text without what a name should not have: paths, spaces, punctuation, controls.

    Args:
        text: any text.
        other: what stands for a run of other characters.
    """
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    kept = []
    for character in visible:
        category = unicodedata.category(character)
        if category[0] in "LMN" or category == "So" or character == "_":
            kept.append(character)
        elif category[0] != "C" or character.isspace():
            # Controls, direction marks and halves of characters leave no trace.
            kept.append(" ")
    return other.join("".join(kept).split())


def safe_name(stem: str, *, prefix: str = "", suffix: str = "") -> str:
    """``prefix + stem + suffix`` as a name that every file system takes.

    Where it is too long, its end is replaced by a part of the text's hash, so that long texts with
    the same beginning keep different names.
    """
    if not prefix and unicodedata.normalize("NFKC", stem.split(".")[0]).upper() in _RESERVED:
        stem += "_"
    room = max(LONGEST - len(os_bytes(prefix + suffix)), 16)
    if len(os_bytes(stem)) > room:
        digest = hashlib.sha256(os_bytes(stem)).hexdigest()[:8]
        stem = f"{_cut(stem, room - 9)}-{digest}"
    return f"{prefix}{stem}{suffix}"


def os_bytes(text: str) -> bytes:
    """The bytes of a name; of half characters, those that Python gives them."""
    return text.encode("utf-8", "surrogatepass")


def _cut(text: str, limit: int) -> str:
    """The first characters, in at most so many bytes, no mark cut off its letter."""
    shown = text
    while len(os_bytes(shown)) > limit:
        shown = shown[: max(limit, 1) if len(shown) > max(limit, 1) else len(shown) - 1]
    if len(shown) < len(text) and unicodedata.category(text[len(shown)])[0] == "M":
        bare = shown.rstrip("".join(c for c in shown if unicodedata.category(c)[0] == "M"))
        shown = bare[:-1] or shown
    return shown


class FileNames:
    """Hands out names, each once: no two differ by letter case or Unicode form alone."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, text: str, *, prefix: str = "", suffix: str = "", number: int = 0) -> str:
        """A new name for a text.

        Args:
            text: a word, or anything.
            prefix, suffix: of the name.
            number: names a text of which nothing is left.
        """
        stem = readable(text) or str(number)
        name, count = safe_name(stem, prefix=prefix, suffix=suffix), 1
        while collision_key(name) in self._taken:
            count += 1
            name = safe_name(stem, prefix=prefix, suffix=f"-{count}{suffix}")
        self._taken.add(collision_key(name))
        return name


def collision_key(name: str) -> str:
    """What two names have in common that some file system takes for one."""
    folded = unicodedata.normalize("NFKC", name).casefold().upper().casefold()
    return unicodedata.normalize("NFKC", folded)
