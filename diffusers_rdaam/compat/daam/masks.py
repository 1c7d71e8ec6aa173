"""The small files of an experiment: masks, images, lines of text, annotations."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam.compat.daam.evaluate import load_mask
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.file_names import collision_key, os_bytes, safe_name
from diffusers_rdaam.files.fields import Check
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import check_no_way_out, read_text
from diffusers_rdaam.files.pictures import read_picture, write_png
from diffusers_rdaam.files.writing import write_text

ANNOTATIONS = "annotations.json"
MAX_LINE = 1_000_000
# Of all masks of a folder together; each is held as float32.
MAX_MASK_PIXELS = 2**27


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


def file_part(name: str) -> str:
    """A user's part of a file's name, as it is.

    Raises:
        InputError: it has what would lead to another folder.
    """
    if name and name.lower() != file_word(name):
        raise InputError(f"{name!r} is a part of a file's name, so it may not hold a path.")
    return name


def write_mask(path: Path, mask: torch.Tensor) -> None:
    """A mask ``(height, width)`` from 0 to 1 as an RGBA image, all four channels alike."""
    levels = (mask.detach().float().cpu().clamp(0, 1) * 255).byte()
    pixels = levels[..., None].expand(-1, -1, 4).contiguous().numpy()
    write_png(path, Image.fromarray(pixels), "mask")


def read_masks(folder: Path, ending: str) -> dict[str, torch.Tensor]:
    """All masks of a folder whose names end so, by lower-case word.

    Raises:
        AttributionFileError: one is not a mask, or together they have too many pixels.
    """
    found: dict[str, torch.Tensor] = {}
    left = MAX_MASK_PIXELS
    for path in sorted(folder.glob(f"*{ending}")):
        check_inside(folder, path)
        word, mask = path.name.removesuffix(ending).lower(), load_mask(path, limit=left)
        left -= mask.numel()
        found[word] = (found[word] + mask).clamp(0, 1) if word in found else mask
    return found


def check_inside(folder: Path, path: Path) -> None:
    """Refuse a file that a link takes out of its experiment's folder.

    Raises:
        AttributionFileError: it does.
    """
    try:
        check_no_way_out(folder, path)
    except InputError as error:
        raise AttributionFileError(str(error)) from error


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
    check_inside(folder, path)
    numbers = np.asarray(read_picture(path))
    words = vocab or []
    if numbers.ndim != 2 or int(numbers.max()) >= len(words):
        raise InputError(
            f"{path} has numbers up to {int(numbers.max())}, and vocab= has {len(words)} words."
        )
    present = np.unique(numbers)
    if len(present) * numbers.size > MAX_MASK_PIXELS:
        raise AttributionFileError(
            f"{path} has {len(present)} masks of {numbers.size} pixels each, over "
            f"{MAX_MASK_PIXELS} together. Scale it down."
        )
    return {
        words[int(number)].lower(): torch.from_numpy(numbers == number).float()
        for number in present
    }


def renamed(found: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Masks by other words, such as those of groups; masks of one word are put together.

    Raises:
        InputError: two masks of one word are of different sizes.
    """
    together: dict[str, torch.Tensor] = {}
    for word, mask in found.items():
        name = names.get(word, word)
        known = together.get(name)
        if known is not None and known.shape != mask.shape:
            raise InputError(
                f"The masks of {name!r} are of sizes {tuple(known.shape)} and {tuple(mask.shape)}; "
                "those of one image must be of one size."
            )
        together[name] = mask if known is None else (known + mask).clamp(0, 1)
    return together


def read_annotations(folder: Path) -> dict[str, Any] | None:
    """The contents of the folder's ``annotations.json``; None where there is no such file.

    Raises:
        AttributionFileError: the file is not a JSON object.
    """
    path = folder / ANNOTATIONS
    if not path.exists():
        return None
    check_inside(folder, path)
    try:
        annotations = parse_json(read_text(path, "annotations"))
    except AttributionFileError:
        raise
    except ValueError:
        annotations = None
    if not isinstance(annotations, dict):
        raise AttributionFileError(f"{path} holds no JSON object.")
    return annotations


def write_annotations(folder: Path, annotations: dict[str, Any]) -> None:
    """Write ``annotations.json``.

    Raises:
        InputError: it cannot be written, or a reader would refuse it.
    """
    path = folder / ANNOTATIONS
    text, found = Check(path, "annotations", writing=True).dumped(annotations)
    if found != annotations:
        raise InputError(
            f"The annotations could not be written to {path}: JSON would change them. They are "
            "texts, finite numbers, truth values, None, lists, and dictionaries with texts as keys."
        )
    write_text(path, text, "annotations")


def read_line(path: Path) -> str:
    """The text of a small file.

    Raises:
        AttributionFileError: there is none.
    """
    try:
        return read_text(path, "file", limit=MAX_LINE).strip()
    except AttributionFileError as error:
        raise AttributionFileError(f"{path} cannot be read: {error}") from error


def read_image(path: Path) -> Image.Image:
    """An image in RGB.

    Raises:
        AttributionFileError: it is missing, cut off or none.
    """
    return read_picture(path).convert("RGB")
