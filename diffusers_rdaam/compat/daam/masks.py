"""The small files of an experiment: masks, images, lines of text, annotations."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.compat.daam.evaluate import load_mask
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.file_names import collision_key, os_bytes, safe_name


def file_word(word: str, others: Iterable[str] = (), *, prefix: str = "", suffix: str = "") -> str:
    """The name of a file of a word, in lower case: no path, no device, not too long.

    Args:
        word: any text.
        others: the words that have files too, in order; where the name is already that of another
            one, a part of the word's hash is in it.
        prefix, suffix: of the name.
    """
    taken: dict[str, str] = {}
    for other in (*others, word):
        text = unicodedata.normalize("NFC", other.lower())
        name = _plain(text, prefix, suffix)
        if taken.setdefault(collision_key(name), text) != text:
            digest = hashlib.sha256(os_bytes(text)).hexdigest()[:6]
            name = _plain(text, prefix, f"-{digest}{suffix}")
        if other == word:
            return name
    raise AssertionError("The word is the last of those.")


def _plain(text: str, prefix: str, suffix: str) -> str:
    # Direction marks, characters that show nothing, and halves of characters.
    kept = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs"))
    kept = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]|^[\s-]', "_", kept) or "_"
    return safe_name(kept, prefix=prefix, suffix=suffix)


def write_mask(path: Path, mask: torch.Tensor) -> None:
    """A mask ``(height, width)`` from 0 to 1 as an RGBA image, all four channels alike."""
    levels = (mask.detach().float().cpu().clamp(0, 1) * 255).byte()
    Image.fromarray(levels[..., None].expand(-1, -1, 4).contiguous().numpy()).save(path)


def read_masks(folder: Path, ending: str) -> dict[str, torch.Tensor]:
    """All masks of a folder whose names end so, by lower-case word."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob(f"*{ending}")):
        word, mask = path.name.removesuffix(ending).lower(), load_mask(path)
        found[word] = (found[word] + mask).clamp(0, 1) if word in found else mask
    return found


def read_predictions(
    folder: Path, prefix: str, *, composite: bool, vocab: Sequence[str] | None
) -> dict[str, torch.Tensor]:
    """The predicted masks of that name.

    Raises:
        InputError: a composite mask has a number that ``vocab`` has no word for.
    """
    if not composite:
        found = read_masks(folder, f".{prefix}.pred.png")
        return {word: mask for word, mask in found.items() if word != "composite"}
    path = folder / f"composite.{prefix}.pred.png"
    if not path.exists():
        return {}
    numbers = np.asarray(_image(path))
    words = vocab or []
    if numbers.ndim != 2 or int(numbers.max()) >= len(words):
        raise InputError(
            f"{path} has numbers up to {int(numbers.max())}, and vocab= has {len(words)} words."
        )
    return {
        words[int(number)].lower(): torch.from_numpy(numbers == number).float()
        for number in np.unique(numbers)
    }


def read_annotations(path: Path) -> dict[str, Any] | None:
    """What JSON the file holds; None where there is no file.

    Raises:
        AttributionFileError: it is no JSON object.
    """
    if not path.exists():
        return None
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        annotations = None
    if not isinstance(annotations, dict):
        raise AttributionFileError(f"{path} holds no JSON object.")
    return annotations


def read_line(path: Path) -> str:
    """The text of a small file.

    Raises:
        AttributionFileError: there is none.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AttributionFileError(f"{path} cannot be read: {error}.") from error


def read_image(path: Path) -> Image.Image:
    """An image in RGB.

    Raises:
        AttributionFileError: it is missing, cut off or none.
    """
    return _image(path).convert("RGB")


def _image(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise AttributionFileError(f"{path} cannot be read as a PNG image: {error}.") from error
