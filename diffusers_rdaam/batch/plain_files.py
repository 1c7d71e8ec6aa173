"""The files of one row, for people and programs that do not read Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers_rdaam.file_names import readable, safe_name
from diffusers_rdaam.files.writing import replacing

IMAGE, ATTRIBUTION, FACTS = "image.png", "attribution.safetensors", "row.json"


def write_plain_files(folder: Path, record: dict[str, Any]) -> None:
    """Write the image, the attribution, and all else as JSON, in a folder of the row.

    The folder's name begins with the row's number, so that no two rows share one.

    Raises:
        OSError, InputError: a file cannot be written.
    """
    index = f"{record['index']:08d}"
    stem = readable(record["id"])
    row = folder / (index if stem in ("", index) else safe_name(stem, prefix=f"{index}-"))
    row.mkdir(parents=True, exist_ok=True)
    rest = {name: value for name, value in record.items() if not isinstance(value, bytes)}
    rest["facts"] = None if record["facts"] is None else json.loads(record["facts"])
    contents = {
        IMAGE: record["image"],
        ATTRIBUTION: record["attribution"],
        FACTS: json.dumps(rest, indent=1, ensure_ascii=False).encode(),
    }
    for name, content in contents.items():
        if content is not None:
            with replacing(row / name) as file:
                file.write(content)
