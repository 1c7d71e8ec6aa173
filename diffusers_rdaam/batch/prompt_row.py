"""PromptRow: what one row of a batch asks for, checked before anything runs."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diffusers_rdaam.argument_checks import scalar
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.word_spans import find_phrase
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.fields import is_text
from diffusers_rdaam.geometry.region import Box

# What a row may have, and what it is.
COLUMNS = {
    "id": "a text or whole number that no other row has",
    "prompt": "a text",
    "negative_prompt": "a text",
    "seed": "a whole number from 0 to 2**64 - 1",
    "size": "[height, width] in pixels, multiples of 8",
    "words": "a list of words or phrases of the prompt",
    "boxes": "a list of boxes [left, top, right, bottom] in pixels",
    "image": "the path of an image, or its bytes",
}
MAX_SEED = 2**64 - 1
MAX_PROMPT = 20_000  # characters; text encoders read some hundred tokens
MAX_ID = 500
MAX_ITEMS = 1_000  # words, and boxes, of a row
MAX_PIXELS = 2**26
MAX_IMAGE = 2**28  # bytes of an image in a row


@dataclass(frozen=True)
class PromptRow:
    """One image to be made, or to be attributed where there is one.

    Args:
        index: of the row in the input, from 0.
        id: of the row; its index as text where the input has none.
        prompt: what to generate, or what the image shows.
        negative_prompt: what not to generate.
        seed: of the noise.
        size: height and width; the model's own if None.
        words: that masks are made of; every word of the prompt if None.
        boxes: whose words are ranked, ``(left, top, right, bottom)`` in pixels of the image.
        image: the path of an image that exists.
        pixels: its bytes, where the input has them.
        problem: why the row cannot run; None where it can.
    """

    index: int
    id: str
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int = 0
    size: tuple[int, int] | None = None
    words: tuple[str, ...] | None = None
    boxes: tuple[tuple[float, ...], ...] = ()
    image: str | None = None
    pixels: bytes | None = None
    problem: str | None = None

    def to_json(self) -> str:
        """All but the pixels, the same text for the same row; :meth:`from_json` reads it."""
        fields = {name: value for name, value in asdict(self).items() if name != "pixels"}
        return json.dumps(fields, sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str, pixels: bytes | None = None) -> PromptRow:
        """The row of :meth:`to_json`."""
        fields = json.loads(text)
        if fields["size"] is not None:
            fields["size"] = tuple(fields["size"])
        if fields["words"] is not None:
            fields["words"] = tuple(fields["words"])
        fields["boxes"] = tuple(map(tuple, fields["boxes"]))
        return cls(**fields, pixels=pixels)


def read_row(index: int, fields: Mapping[str, Any], place: str, base_seed: int) -> PromptRow:
    """The row of some fields; where one of them is wrong, a row with a problem.

    Args:
        index: of the row, from 0.
        fields: by the names of :data:`COLUMNS`; a missing one, None and ``""`` are the same.
        place: of the row, for its problem.
        base_seed: to which the index is added where the row has no seed.
    """
    fields = {name: value for name, value in fields.items() if value is not None and value != ""}
    seed = (base_seed + index) % (MAX_SEED + 1)
    row = PromptRow(index, f"{index:08d}", seed=seed)
    try:
        row = replace(row, id=_id(fields.get("id", row.id)))
        row = replace(row, prompt=_prompt(fields.get("prompt"), "prompt"))
        return _with_options(row, fields)
    except InputError as error:
        return replace(row, problem=f"{place}: {str(error).rstrip('.')}.")


def _with_options(row: PromptRow, fields: Mapping[str, Any]) -> PromptRow:
    if "negative_prompt" in fields:
        text = _prompt(fields["negative_prompt"], "negative_prompt")
        row = replace(row, negative_prompt=text)
    if "seed" in fields:
        row = replace(row, seed=_seed(fields["seed"]))
    if "size" in fields:
        row = replace(row, size=_size(fields["size"]))
    if "words" in fields:
        assert row.prompt is not None
        row = replace(row, words=_words(fields["words"], row.prompt))
    if "boxes" in fields:
        # In pixels of the file, where there is an image.
        size = None if "image" in fields else row.size
        row = replace(row, boxes=_boxes(fields["boxes"], size))
    if "image" in fields:
        if row.negative_prompt is not None:
            raise InputError(
                "an image that exists is attributed without guidance, so that a negative_prompt "
                "has no effect. Leave one of the two out"
            )
        path, pixels = _image(fields["image"])
        row = replace(row, image=path, pixels=pixels)
    return row


def _wrong(name: str, value: Any) -> InputError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
    return InputError(f"{name} is {COLUMNS[name]}; got {shown}")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value)
    if not is_text(value):
        raise InputError(f"{name} is not valid UTF-8: {value[:80]!a}")
    return value


def _prompt(value: Any, name: str) -> str:
    if value is None:
        raise InputError("it has no prompt")
    text = _text(value, name)
    if not text.strip():
        raise InputError(f"its {name} is empty")
    if len(text) > MAX_PROMPT:
        raise InputError(
            f"its {name} has {len(text)} characters, and at most {MAX_PROMPT} are read"
        )
    return text


def _id(value: Any) -> str:
    value = scalar(value)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    text = _text(text, "id")
    if not text.strip() or len(text) > MAX_ID:
        raise _wrong("id", text)
    return text


def _seed(value: Any) -> int:
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_SEED:
        raise _wrong("seed", value)
    return number


def _whole(value: Any) -> int | None:
    """A whole number, also as text (as tables have it) or as 3.0 (where some rows have none)."""
    value = scalar(value)
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    return value if isinstance(value, int) else None


def _size(value: Any) -> tuple[int, int]:
    given = value
    if isinstance(value, str):
        parts = value.lower().replace("×", "x").strip("[]() ")
        given = parts.split("x" if "x" in parts else ",")
    if isinstance(given, Mapping):
        given = [given.get("height"), given.get("width")]
    if not _is_list(given) or len(given) != 2:
        raise _wrong("size", value)
    sides = [_whole(side) for side in given]
    if any(side is None or side < 8 or side % 8 for side in sides):
        raise _wrong("size", value)
    height, width = (int(side or 0) for side in sides)
    if height * width > MAX_PIXELS:
        raise InputError(f"size {height} x {width} is too large: an image has up to 2**26 pixels")
    return height, width


def _words(value: Any, prompt: str) -> tuple[str, ...]:
    """A list; or as text, which is JSON or parts between semicolons."""
    given = value
    if isinstance(value, str):
        given = _from_json(value) if value.strip().startswith("[") else value.split(";")
    if not _is_list(given) or len(given) > MAX_ITEMS:
        raise _wrong("words", value)
    words = [_text(word, "words").strip() for word in given]
    if not all(words):
        raise _wrong("words", value)
    for word in words:
        # What is there only in part, the tokenizer decides about.
        if not find_phrase(prompt, word) and _folded(word) not in _folded(prompt):
            Prompt(prompt, ()).find(word)
    return tuple(dict.fromkeys(words))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", "".join(text.split())).casefold()


def _boxes(value: Any, size: tuple[int, int] | None) -> tuple[tuple[float, ...], ...]:
    """A list of boxes; as text, JSON or ``L,T,R,B`` with semicolons between them."""
    given = value
    if isinstance(value, str):
        given = _from_json(value) if value.strip().startswith("[") else _numbers(value)
    if _is_list(given) and len(given) == 4 and not any(map(_is_list, given)):
        given = [given]
    if not _is_list(given) or len(given) > MAX_ITEMS:
        raise _wrong("boxes", value)
    boxes = []
    for edges in given:
        if not _is_list(edges) or len(edges) != 4:
            raise _wrong("boxes", value)
        box = Box(*edges)
        if size is not None:
            box.inside(size)
        boxes.append(box.as_tuple())
    return tuple(boxes)


def _numbers(text: str) -> list[list[float]]:
    try:
        return [[_edge(float(edge)) for edge in part.split(",")] for part in text.split(";")]
    except ValueError:
        raise _wrong("boxes", text) from None


def _edge(value: float) -> float:
    return int(value) if math.isfinite(value) and value.is_integer() else value


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _image(value: Any) -> tuple[str | None, bytes | None]:
    """A path or bytes; of both, as ``datasets`` has them, the bytes."""
    path, pixels = None, value
    if isinstance(value, Mapping):
        path, pixels = value.get("path"), value.get("bytes")
    if isinstance(value, (str, Path)):
        path, pixels = str(value), None
    if pixels is not None:
        if not isinstance(pixels, (bytes, bytearray)) or not pixels:
            raise _wrong("image", value)
        if len(pixels) > MAX_IMAGE:
            raise InputError(f"its image has {len(pixels)} bytes, and at most {MAX_IMAGE} are read")
        return None, bytes(pixels)
    name = _text(path, "image")
    if "://" in name:
        raise InputError(f"its image {name[:80]!r} is an address, and nothing is downloaded")
    return name, None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
