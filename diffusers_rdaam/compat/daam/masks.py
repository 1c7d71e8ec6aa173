"""The small files of an experiment: masks, images, lines of text, annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.compat.daam.evaluate import load_mask
from diffusers_rdaam.errors import AttributionFileError, InputError


def file_word(word: str) -> str:
    """A word as a part of a file's name: lower case, and no path."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", word.lower())


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
