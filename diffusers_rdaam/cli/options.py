"""Checks of options before a model is loaded; each function raises ``InputError``."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.word_spans import find_phrase
from diffusers_rdaam.errors import InputError, RegionError
from diffusers_rdaam.geometry.checks import BOX_FORM
from diffusers_rdaam.geometry.region import Box
from diffusers_rdaam.suggestions import unknown_name

# The aggregation whose words are texts of the run's vocabulary.
OF_ITS_OWN_TEXT = "ovam"
MOST_PIXELS = 2**26
_MOST_GUIDANCE = 1000.0


def parse_box(text: str, size: tuple[int, int] | None = None) -> Box:
    """A box from ``L,T,R,B``; of an image of ``size`` (height, width), where that is known.

    Raises:
        RegionError: not four numbers, or empty, inverted, or outside the image.
    """
    parts = text.split(",")
    try:
        if len(parts) != 4:
            raise ValueError
        edges = [_number(part) for part in parts]
    except ValueError:
        raise RegionError(
            f"--box {text!r} is not a box. Give --box L,T,R,B, four whole numbers or fractions: "
            f"{BOX_FORM}."
        ) from None
    box = Box(*edges)
    if size is not None:
        box.inside(size)
    return box


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def check_texts(texts: Iterable[tuple[str, str | None]]) -> None:
    """Refuse texts that are not Unicode; each comes with the name of its option."""
    for name, text in texts:
        if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"{name} is not valid Unicode: {text[:80]!r}. Give it in the terminal's encoding, "
                "most often UTF-8."
            )


def check_words(prompt: str, words: Iterable[str]) -> None:
    """Refuse words that are not in the prompt at all; the tokenizer decides about the others."""
    whole = _folded(prompt)
    for word in words:
        if not word.strip():
            raise InputError("--word and --timeline take a word or phrase of the prompt, not ''.")
        if not find_phrase(prompt, word) and _folded(word) not in whole:
            Prompt(prompt, ()).find(word)


def check_aggregation(name: str) -> None:
    """Refuse a name that no aggregation has."""
    known = aggregations()
    if name not in known:
        raise InputError(f"--aggregation: {unknown_name(name, known, 'an aggregation')}")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", "".join(text.split())).casefold()


def check_size(height: int | None, width: int | None) -> None:
    """Refuse sides that no model makes."""
    for name, side in (("height", height), ("width", width)):
        if side is not None and (side < 8 or side % 8):
            raise InputError(f"--{name} must be a positive multiple of 8; got {side}.")
        if side is not None and side * 8 > MOST_PIXELS:
            raise InputError(f"--{name} {side} is too large: an image has up to 2**26 pixels.")
    if height is not None and width is not None and height * width > MOST_PIXELS:
        raise InputError(
            f"--height {height} and --width {width} are too large: an image has up to 2**26 pixels."
        )


def check_guidance(scale: float | None, negative_prompt: str | None) -> None:
    """Refuse a scale that is not a number, or that leaves a negative prompt without effect."""
    if scale is None:
        return
    if not (math.isfinite(scale) and 0.0 <= scale <= _MOST_GUIDANCE):
        raise InputError(
            f"--guidance-scale is a number from 0 to {_MOST_GUIDANCE:g}; got {scale}. Models are "
            "used with 1 (none) to 15."
        )
    if negative_prompt is not None and scale <= 1.0:
        raise InputError(
            f"--negative-prompt has no effect with --guidance-scale {scale:g}. Give a scale over "
            "1, or leave the negative prompt out."
        )


def check_steps(steps: int | None, most: int | None) -> None:
    """Refuse more steps than the model's scheduler has."""
    if steps is not None and most is not None and steps > most:
        raise InputError(f"--steps {steps} are more than the model's scheduler has: {most}.")


def check_threshold(threshold: float) -> None:
    """Refuse a number that is not a threshold of a map from 0 to 1."""
    if not 0.0 <= threshold < 1.0:
        raise InputError(f"--threshold lies in [0, 1), on the map from 0 to 1; got {threshold}.")


def check_picture_path(path: Path | None) -> None:
    """Refuse a path that no picture can be written to."""
    if path is None:
        return
    problem = None
    try:
        if path.is_dir():
            problem = "it is a folder. Give the path of a .png file"
        elif not path.parent.is_dir():
            problem = f"there is no folder {path.parent}. Make it, or give another path"
        elif path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            problem = "its ending is not one of .png, .jpg, .jpeg, .webp. Give a .png path"
    except (OSError, ValueError) as error:
        problem = str(error)
    if problem is not None:
        raise InputError(f"The heat map could not be written to {path}: {problem}.")
