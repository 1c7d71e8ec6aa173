"""annotation_page: one HTML file in which a person draws boxes and points over an image.

It needs no server, no model and no network. "Save" downloads ``annotations.json``, which
:func:`read_annotations` reads and :func:`annotate` makes masks of.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from diffusers_rdaam.drawing.labels import label_colour
from diffusers_rdaam.drawing.pictures import ImageLike, as_picture
from diffusers_rdaam.errors import AttributionFileError
from diffusers_rdaam.files.fields import is_number, is_text
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import read_text
from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.segmentation.annotate import AnnotatedObject, Annotations
from diffusers_rdaam.segmentation.classes import ClassesLike, object_classes

FORMAT, VERSION = "diffusers_rdaam.annotations", "1"


def annotation_page(
    image: ImageLike, names: ClassesLike, path: str | Path | None = None
) -> str | Path:
    """The page; written to ``path`` where one is given, whose path is then returned.

    Args:
        image: to annotate.
        names: the classes, as in :func:`object_classes`.
        path: of the HTML file.

    Raises:
        InputError: the image or the classes are none, or the file cannot be written.
    """
    picture = as_picture(image).convert("RGB")
    classes = [one.name for one in object_classes(names)]
    data = {
        "classes": classes,
        # The first colour of labels is a background's.
        "colours": [f"rgb{label_colour(number)}" for number in range(1, len(classes) + 1)],
        "width": picture.width,
        "height": picture.height,
    }
    content = BytesIO()
    picture.save(content, format="PNG")
    page = _document(data, base64.b64encode(content.getvalue()).decode())
    if path is None:
        return page
    write_text(Path(path), page, "annotation page")
    return Path(path)


def read_annotations(path: str | Path) -> Annotations:
    """What was saved in the page.

    Raises:
        AttributionFileError: the file is not whole, or not of an annotation page.
    """
    file = Path(path)
    try:
        content = parse_json(read_text(file, "file of annotations"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"its format is {content['format']!r}, version {content['version']!r}")
        height, width = content["size"]
        names = tuple(content["classes"])
        if not all(map(is_text, names)) or not (type(height) is type(width) is int):
            raise ValueError("its classes or its size are of another type")
        objects = tuple(_object(one, names) for one in content["objects"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, AttributionFileError):
            raise
        raise AttributionFileError(
            f"{file} does not hold annotations: {error!r}. Save them in the page that "
            "annotation_page writes."
        ) from error
    return Annotations(objects, names, (height, width))


def _object(one: Any, names: Sequence[str]) -> AnnotatedObject:
    name, box, point = one["class"], one["box"], one["point"]
    if name not in names:
        raise ValueError(f"{str(name)[:80]!r} is not one of its classes")
    for value, count in ((box, 4), (point, 2)):
        right = value is None or (len(value) == count and all(map(is_number, value)))
        if not right:
            raise ValueError(f"{str(value)[:80]} is not {count} numbers")
    return AnnotatedObject(
        name, None if box is None else tuple(box), None if point is None else tuple(point)
    )


def _document(data: dict[str, Any], image: str) -> str:
    folder = files("diffusers_rdaam.segmentation") / "assets"
    styles, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("annotate.css", "annotate.js")
    )
    # A class's name is data: in JSON no "<" may begin a tag.
    text = json.dumps(data).replace("<", "\\u003c")
    sources = " ".join(
        f"{kind} 'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}';"
        for kind, part in (("script-src", script), ("style-src-elem", styles))
    )
    policy = f"default-src 'none'; img-src data:; style-src-attr 'unsafe-inline'; {sources}"
    parts = {
        "policy": escape(policy),
        "styles": styles,
        "script": script,
        "image": image,
        "data": text,
        "size": f"{data['width']}x{data['height']}",
        "width": str(data["width"]),
        "height": str(data["height"]),
    }
    page = (folder / "annotate.html").read_text(encoding="utf-8")
    # In one pass: what is put in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)
