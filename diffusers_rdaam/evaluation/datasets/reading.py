"""What all formats share: folders, images, label maps and lists of names; errors say where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from diffusers_rdaam.errors import AttributionFileError, DataSetError, InputError
from diffusers_rdaam.evaluation.sample import ClassName, Target
from diffusers_rdaam.files.opening import read_bytes
from diffusers_rdaam.files.pictures import read_picture
from diffusers_rdaam.images.input_images import as_rgb

# Annotations of COCO's training split are some 450 MB of JSON.
MOST_JSON = 2**30
PICTURES = (".png", ".jpg", ".jpeg")
# Where Pillow finds how a picture is to be turned.
_ORIENTATION = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_PLAIN = re.compile(r"[^/\\\0]+")


def folder(path: Path, what: str) -> Path:
    """A folder that has to be there.

    Raises:
        DataSetError: it is not.
    """
    if path.is_file():
        raise DataSetError(f"{path} is a file; give the folder of the data set, with {what}.")
    if not path.is_dir():
        raise DataSetError(
            f"There is no folder {path}, which has {what}. Give the folder that the data set was "
            "unpacked to."
        )
    return path


def listed(path: Path) -> list[str]:
    """The names in a list file: the first word of each line that is not empty.

    Raises:
        DataSetError: there is no such file, or it is empty.
    """
    names = [line.split()[0] for line in text(path).splitlines() if line.strip()]
    if not names:
        raise DataSetError(f"{path} is empty; it has the name of an image on each line.")
    return names


def text(path: Path, *, limit: int = MOST_JSON) -> str:
    """A text file.

    Raises:
        DataSetError: there is no such file, or it is not UTF-8.
    """
    try:
        return read_bytes(path, "file", limit=limit).decode("utf-8-sig")
    except AttributionFileError as error:
        raise DataSetError(str(error)) from error
    except UnicodeDecodeError as error:
        raise DataSetError(f"{path} is not a text file in UTF-8: {error}.") from error


def json_file(path: Path, *fields: str) -> dict[str, Any]:
    """A JSON object with some fields.

    Raises:
        DataSetError: there is no such file, it is not JSON, or lacks a field.
    """
    try:
        found = json.loads(text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataSetError):
            raise
        raise DataSetError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise DataSetError(f"{path} holds a {type(found).__name__}; it holds one JSON object.")
    for name in fields:
        if name not in found:
            raise DataSetError(
                f"{path} has no {name!r}; it has: {', '.join(map(repr, list(found)[:10]))}."
            )
    return found


def image(path: Path, *, masks: tuple[int, int] | None = None) -> Image.Image:
    """A picture in RGB: 16 bits as 8, transparent parts on white.

    Its pixels stay as they lie in the file, which is what masks are drawn over. Where the camera
    says that it is to be turned, and only the turned picture has the size of its masks, it is
    turned.

    Args:
        path: of the picture.
        masks: the height and width of its masks, where they are known.

    Raises:
        DataSetError: there is none, or it cannot be read.
    """
    found = picture(path)
    turned = ImageOps.exif_transpose(found)
    if masks is not None and turned.size == masks[::-1] != found.size:
        found = turned
    found = found.copy()
    for name in _ORIENTATION:
        # Whoever asks later for the picture as the camera says would turn it away from its masks.
        found.info.pop(name, None)
    try:
        return as_rgb(found)
    except InputError as error:
        raise DataSetError(f"{path}: {error}") from error


def labels(path: Path) -> np.ndarray:
    """The numbers of a label map ``(height, width)``: palette indices, grey levels, 8 or 16 bits.

    A palette is never turned into colours or grey: its indices are the classes.

    Raises:
        DataSetError: the picture cannot be read, or has colours.
    """
    found = picture(path)
    if found.mode not in ("P", "L", "1", "I", "I;16", "I;16B", "I;16L"):
        raise DataSetError(
            f"{path} is an image of mode {found.mode}; a label map is a palette or grey PNG, "
            "whose numbers are the classes."
        )
    return np.array(found).astype(np.int64)


def picture(path: Path) -> Image.Image:
    try:
        return read_picture(path, formats=None)
    except AttributionFileError as error:
        raise DataSetError(str(error)) from error


def picture_of(directory: Path, name: str) -> Path:
    """The picture of a name, with whichever ending it has.

    Raises:
        DataSetError: there is none.
    """
    for ending in PICTURES:
        path = directory / f"{name}{ending}"
        if path.is_file():
            return path
    raise DataSetError(f"There is no image {name} ({', '.join(PICTURES)}) in {directory}.")


def plain_name(name: Any, where: Path) -> str:
    """A name that stays in its folder.

    Raises:
        DataSetError: it is not a text, or has a slash or dots that lead elsewhere.
    """
    if not isinstance(name, str) or not _PLAIN.fullmatch(name) or name in (".", ".."):
        raise DataSetError(f"{where}: {name!r:.80} is not a name of a file.")
    return name


def inside(root: Path, relative: Any, where: str) -> Path:
    """The path of a file that an entry names, inside of the data set's folder.

    Raises:
        DataSetError: it leads out of it.
    """
    if not isinstance(relative, str) or not relative:
        raise DataSetError(f"{where}: a file is named by a text; got {relative!r:.80}.")
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        raise DataSetError(f"{where}: {relative!r:.80} leads out of the data set's folder.")
    return root / path


def targets_of(
    numbers: np.ndarray, classes: Mapping[int, ClassName], *, unscored: Iterable[int], where: str
) -> tuple[tuple[Target, ...], np.ndarray | None]:
    """The targets of a label map, one for each class that is in it, and the ignored pixels.

    Args:
        numbers: of the label map.
        classes: by number.
        unscored: numbers whose pixels are ignored.
        where: the name of the file, for errors.

    Raises:
        DataSetError: a number is neither.
    """
    ignored = np.isin(numbers, list(unscored))
    targets = []
    for number in map(int, np.unique(numbers[~ignored])):
        if number not in classes:
            if number == 0:
                # Background, unless the data set says otherwise: it has no word.
                continue
            known = ", ".join(map(str, sorted(classes)[:30])) or "none is named"
            raise DataSetError(
                f"{where} has the number {number}, which is not a class. Classes: {known}; "
                f"ignored: {', '.join(map(str, unscored)) or 'none'}."
            )
        one = classes[number]
        targets.append(Target(one.word, numbers == number, one.name))
    return tuple(targets), ignored if ignored.any() else None
