"""The columns of the output, as Arrow, as ``datasets`` has them, and as records of Python."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers_rdaam.batch.extra import import_arrow

# What the card says of each.
MEANINGS = {
    "index": "the row's place in the input, from 0",
    "id": "the row's name",
    "prompt": "what was generated, or what the image shows",
    "negative_prompt": "what was not to be generated",
    "seed": "of the noise",
    "height": "of the image, in pixels",
    "width": "of the image, in pixels",
    "image": "PNG",
    "attribution": "safetensors; `Attribution.from_bytes(...)` opens it, without a model",
    "words": "each word: `score` (mean probability in the image), the `box` around its largest "
    "part, `score_in_box` and `lift` (`score_in_box` over `score`), `peak`, the `threshold` of its "
    "mask",
    "masks": "the mask of each word, in the order of `words`, in COCO's uncompressed run lengths",
    "boxes": "each box that was asked for, with its words by `lift`; `no_word` where none made it",
    "facts": "facts about the run, as JSON",
    "warnings": "what the package warned of",
    "error": "why the row failed; null where it did not",
    "error_class": "the class of that error",
}


@functools.cache
def output_schema() -> Any:
    """The Arrow schema of a file."""
    pa = import_arrow()
    word = [
        ("text", pa.string()),
        ("spans", pa.list_(pa.list_(pa.int32()))),
        ("score", pa.float64()),
        ("peak", pa.float64()),
        ("threshold", pa.float64()),
        ("box", pa.list_(pa.int32())),
        ("score_in_box", pa.float64()),
        ("lift", pa.float64()),
    ]
    mask = [
        ("word", pa.string()),
        ("size", pa.list_(pa.int32())),
        ("counts", pa.list_(pa.int32())),
    ]
    ranked = [(name, pa.float64()) for name in ("score", "share", "lift")]
    box = [
        ("box", pa.list_(pa.float64())),
        ("no_word", pa.bool_()),
        ("words", pa.list_(pa.struct([("text", pa.string()), *ranked]))),
    ]
    types = {
        "index": pa.int64(),
        "seed": pa.uint64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "image": pa.binary(),
        "attribution": pa.binary(),
        "words": pa.list_(pa.struct(word)),
        "masks": pa.list_(pa.struct(mask)),
        "boxes": pa.list_(pa.struct(box)),
        "warnings": pa.list_(pa.string()),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in MEANINGS])


def table_of(records: Sequence[Mapping[str, Any]]) -> Any:
    """Records as a table; a column that a record lacks is null there."""
    rows = [{name: record.get(name) for name in MEANINGS} for record in records]
    return import_arrow().Table.from_pylist(rows, schema=output_schema())


def features(kind: Any = None, indent: int = 2) -> str:
    """The columns in the form of a data set card, as YAML."""
    lines = []
    for entry in output_schema() if kind is None else kind:
        lines += _feature(entry.name, entry.type, " " * indent, image=entry.name == "image")
    return "\n".join(lines)


def _feature(name: str, kind: Any, space: str, *, image: bool = False) -> list[str]:
    types = import_arrow().types
    head = f"{space}- name: {name}"
    if image:
        return [head, f"{space}  dtype: image"]
    if types.is_list(kind) and types.is_struct(kind.value_type):
        inner = features(list(kind.value_type), len(space) + 2)
        return [head, f"{space}  list:", inner]
    if types.is_list(kind):
        inside = kind.value_type
        if types.is_list(inside):
            return [head, f"{space}  list:", f"{space}    list: {_dtype(inside.value_type)}"]
        return [head, f"{space}  list: {_dtype(inside)}"]
    return [head, f"{space}  dtype: {_dtype(kind)}"]


def _dtype(kind: Any) -> str:
    return {"double": "float64"}.get(str(kind), str(kind))
