"""The values that a form sends, as what is asked for: numbers, files and masks; no gradio."""

from __future__ import annotations

import re
from typing import Any

from PIL import Image

from diffusers_rdaam.app import events
from diffusers_rdaam.errors import AttributionFileError, InputError, RDAAMError


def typed_number(value: Any, name: str) -> float | None:
    """The number that somebody has typed; None for an empty field.

    Raises:
        InputError: it is not a number.
    """
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{name} is a number; got {text!r:.60}. Leave the field empty for the model's own."
        ) from None


def typed_whole(value: Any, name: str) -> int | None:
    """The whole number that somebody has typed; None for an empty field.

    Raises:
        InputError: it is not one.
    """
    return whole(typed_number(value, name), name)


def whole(value: Any, name: str) -> int | None:
    """A number of the form as a whole one; None stays.

    Raises:
        InputError: it is not one.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        raise InputError(f"{name} is a whole number; got {value!r:.60}.")
    return int(value)


def image_number(current: Any) -> int:
    """The number of an image of the history.

    Raises:
        InputError: there is none.
    """
    if current is None:
        raise InputError("There is no image yet. Generate one, or open a file.")
    found = whole(current, "The number of an image")
    assert found is not None
    return found


def uploaded(path: str | None) -> str:
    """Where the server has put an uploaded file.

    Raises:
        InputError: none came.
    """
    if path is None:
        raise InputError("There is no file. Upload one.")
    return path


def painted_mask(strokes: str, picture: Image.Image | None) -> Image.Image | None:
    """The mask that was painted over a picture; None where nothing was.

    Raises:
        RegionError: the strokes are not ones.
    """
    found = events.read_selection(strokes).get("strokes")
    if not found or picture is None:
        return None
    return events.painted(found, (picture.height, picture.width))


def error_text(error: Exception) -> str:
    """What the page says of an error, without where the server has put an upload."""
    if isinstance(error, AttributionFileError):
        return re.sub(r"/\S*/([^/\s]+)", r"\1", str(error))
    return str(error) if isinstance(error, RDAAMError) else f"The run failed: {error}"
