"""One HTML document with everything in it: the data, the styles and the script."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from importlib.resources import files
from typing import Any

from PIL import Image

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.viewer.contents import (
    Viewable,
    ViewerContents,
    ViewerMaps,
    ViewerPart,
    ViewerRecord,
    ViewerSelfGrid,
)
from diffusers_rdaam.viewer.packing import BYTES_A_CELL, packed

# In the order in which they are put together: each uses what stands before it.
SCRIPTS = (
    "inflate.js",
    "maps.js",
    "regions.js",
    "masks.js",
    "colours.js",
    "record.js",
    "elements.js",
    "stage.js",
    "table.js",
    "exports.js",
    "viewer.js",
    "start.js",
)
STYLES = "viewer.css"
# Bytes of a page that is written without being asked twice.
LARGEST = 50_000_000
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpeg": {"format": "JPEG", "quality": 92},
    "webp": {"format": "WEBP", "quality": 90},
}
_LONGEST_TITLE = 120
# Of a file whose end is missing, or a page where scripts are off; the script removes it.
_INCOMPLETE = (
    "This page is incomplete or its script did not run: copy or make the file again, and switch "
    "scripts on. It computes the maps of words by itself; nothing is loaded from or sent to "
    "anywhere."
)


def viewer_page(
    attributions: Viewable | Iterable[Viewable],
    *,
    title: str | None = None,
    embedded: bool = False,
    kept: bool = True,
    large: bool = False,
    image_format: str = "png",
) -> str:
    """A complete HTML document that shows one attribution, or several side by side.

    It needs no server and no network: maps, images, script and styles are in it, and a Content
    Security Policy allows nothing else.

    Args:
        attributions: of images or videos.
        title: of the document; the prompt if not given.
        embedded: for a frame in another page, without a margin of its own.
        kept: whether finer records are in it: steps, layers, refined maps, self-attention.
        large: whether it may have more than 50 MB.
        image_format: ``"png"``, ``"jpeg"`` or ``"webp"``.

    Raises:
        InputError: there is no attribution, something is none, or the page would be too large.
    """
    contents = contents_of(attributions, kept=kept)
    check_size(contents, large=large)
    return document(contents, title=title, embedded=embedded, image_format=image_format)


def contents_of(
    attributions: Viewable | Iterable[Viewable], *, kept: bool
) -> tuple[ViewerContents, ...]:
    """What of each attribution is in the page; maps are not read yet.

    Raises:
        InputError: there is none, or something that is not an attribution.
    """
    if isinstance(attributions, Viewable):
        return (attributions.viewer_contents(kept=kept),)
    if isinstance(attributions, (str, bytes)) or not isinstance(attributions, Iterable):
        raise InputError(
            f"The viewer shows attributions; got a {type(attributions).__name__}. Give an "
            "Attribution, such as Attribution.load(path), or a list of them."
        )
    found = list(attributions)
    for one in found:
        if not isinstance(one, Viewable):
            raise InputError(
                f"The viewer shows attributions; one of these is a {type(one).__name__}. Give "
                "attributions, such as Attribution.load(path)."
            )
    if not found:
        raise InputError("The viewer needs at least one attribution; the list is empty.")
    return tuple(one.viewer_contents(kept=kept) for one in found)


def largest_size(contents: Iterable[ViewerContents]) -> int:
    """The bytes of the page's maps at most; images come on top, and maps are often compressed."""
    return round(sum(one.cells for one in contents) * BYTES_A_CELL)


def check_size(contents: Iterable[ViewerContents], *, large: bool) -> None:
    """Refuse a page of over 50 MB that nobody asked for.

    Raises:
        InputError: it would be larger.
    """
    size = largest_size(contents)
    if size > LARGEST and not large:
        raise InputError(
            f"The viewer's page would have up to {size / 1e6:.0f} MB, over {LARGEST / 1e6:.0f} MB. "
            "Pass kept=False to leave out steps, layers, refined maps and self-attention, "
            "select() a part of the attribution first, or pass large=True to write it all the same."
        )


def document(
    contents: tuple[ViewerContents, ...],
    *,
    title: str | None = None,
    embedded: bool = False,
    image_format: str = "png",
) -> str:
    """The document of :func:`viewer_page`.

    Raises:
        InputError: there is no such format of images, or the title is not a text.
    """
    if not isinstance(image_format, str) or image_format not in _FORMATS:
        raise InputError(
            f"The image is written as one of {', '.join(_FORMATS)}; got {image_format!r:.80}."
        )
    if title is not None and not isinstance(title, str):
        raise InputError(f"title= is a text; got a {type(title).__name__}.")
    shown = contents[0].title if title is None else title
    data = {
        "embedded": bool(embedded),
        "entries": [_entry(one, image_format) for one in contents],
    }
    script, styles = _assets()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(styles)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{_title(shown)}</title>",
            "</head>",
            f'<body class="{"embedded" if embedded else "page"}">',
            # Before all that is long, the styles too: where a file ends early, this is what is
            # seen. The policy refuses styles whose end is missing; the note is readable without.
            f'<p class="remark" id="incomplete" role="alert">{_INCOMPLETE}</p>',
            f"<style>{styles}</style>",
            '<main id="viewers"></main>',
            f'<script type="application/json" id="rdaam-data">{_json(data)}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


@lru_cache(maxsize=1)
def _assets() -> tuple[str, str]:
    """The script, in one scope of its own, and the styles."""
    folder = files("diffusers_rdaam.viewer") / "assets"
    parts = [(folder / name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = "\n".join(['(() => {\n"use strict";', *parts, "})();"])
    return script, (folder / STYLES).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _title(text: str) -> str:
    """Plain text of one line; half of a surrogate pair becomes a mark."""
    line = " ".join(text[:_LONGEST_TITLE].split()) or "Attribution"
    printable = "".join(c if c.isprintable() else " " for c in line)
    return escape(printable.encode("utf-8", "replace").decode("utf-8"))


def _json(data: dict[str, Any]) -> str:
    """JSON in plain ASCII without a character that could end the script element."""
    text = json.dumps(_finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """The same with 0 for numbers that JSON does not have, of a file that somebody has damaged."""
    if isinstance(value, float):
        return value if math.isfinite(value) else 0.0
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value


def _entry(contents: ViewerContents, image_format: str) -> dict[str, Any]:
    return {
        "title": contents.title,
        "size": list(contents.image_size),
        "frames": [
            {
                "image": None if frame.image is None else _uri(frame.image, image_format),
                "part": frame.part,
                "label": frame.label,
            }
            for frame in contents.frames
        ],
        "parts": [_part(part) for part in contents.parts],
        "facts": {str(name): _fact(value) for name, value in contents.facts.items()},
    }


def _fact(value: Any) -> Any:
    # JSON has no infinity.
    return value if value is None or isinstance(value, (bool, int, str)) else f"{value:.6g}"


def _part(part: ViewerPart) -> dict[str, Any]:
    return {
        "records": [_record(record) for record in part.records],
        "self": [_self_grid(grid) for grid in part.self_grids],
    }


def _record(record: ViewerRecord) -> dict[str, Any]:
    return {
        "role": record.role,
        "name": record.name,
        "texts": [list(text) for text in record.texts],
        "words": [{"text": word.text, "columns": list(word.columns)} for word in record.words],
        "groups": [
            {"label": group.label, "columns": list(group.columns), "words": list(group.words)}
            for group in record.groups
        ],
        "special": {kind: list(columns) for kind, columns in record.special.items()},
        "noWordLevel": record.no_word_level,
        "maps": [_maps(maps) for maps in record.maps],
    }


def _maps(maps: ViewerMaps) -> dict[str, Any]:
    grids, levels = maps.read()
    return {
        "kind": maps.kind,
        "label": maps.label,
        "threshold": maps.threshold,
        "levels": [float(f"{level:.9g}") for level in levels],
        "grids": [
            {
                "columns": int(grid.maps.shape[0]),
                "height": int(grid.maps.shape[1]),
                "width": int(grid.maps.shape[2]),
                "share": grid.share,
                "stream": grid.stream,
                "data": packed(grid.maps),
            }
            for grid in grids
        ],
    }


def _self_grid(grid: ViewerSelfGrid) -> dict[str, Any]:
    height, width = grid.size
    return {
        "columns": height * width,
        "height": height,
        "width": width,
        "share": grid.share,
        "stream": "",
        "data": packed(grid.read()),
    }


def _uri(image: Image.Image, image_format: str) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, **_FORMATS[image_format])
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{image_format};base64,{text}"
