"""The card of the data set: what it holds, how it was made, how it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from diffusers_rdaam.batch.folder import FileOfRows, Job
from diffusers_rdaam.batch.output_schema import MEANINGS, features

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_READ = """
```python
from datasets import load_dataset

from diffusers_rdaam import Attribution

row = load_dataset("FOLDER", split="train")[0]
attribution = Attribution.from_bytes(row["attribution"]).with_image(row["image"])
attribution.region((0, 0, row["width"] // 2, row["height"]))
```

pandas, DuckDB and Ray read `data/*.parquet`; `image` is PNG bytes there. The masks are COCO's run
lengths: `pycocotools.mask.frPyObjects(mask, *mask["size"])` compresses one.
"""


def card(job: Job, files: Sequence[FileOfRows]) -> str:
    """The text of the folder's ``README.md``, the same for the same batch."""
    rows = sum(file.rows for file in files)
    size = next((name for limit, name in _SIZES if rows < limit), "n>1M")
    failed = sum(file.errors for file in files)
    identity = job.identity
    model = identity["model"] or "the embedded Stable Diffusion of diffusers_rdaam"
    settings = [
        f"| {name} | {_cell(value)} |"
        for name, value in sorted({**identity, **identity["versions"]}.items())
        if value is not None and name not in ("versions", "model_files") and value != {}
    ]
    columns = [f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items()]
    return "\n".join(
        [
            "---",
            f"pretty_name: {json.dumps(f'Images and attributions of {model}')}",
            "task_categories:\n- text-to-image\n- image-segmentation",
            "tags:\n- attribution\n- diffusers\n- diffusers_rdaam",
            f"size_categories:\n- {size}",
            'configs:\n- config_name: default\n  data_files: "data/*.parquet"',
            f"dataset_info:\n  features:\n{features()}",
            "---\n",
            "# Images, and the words that made their regions\n",
            f"{rows} rows, of which {failed} failed and have an `error`; made by `rdaam batch` "
            f"with {model}. Every image has the attribution of its prompt: which words made which "
            "regions.\n",
            "## Columns\n\n| column | what it holds |\n|---|---|",
            *columns,
            "\n## Reading it",
            _READ,
            "## How it was made\n\n| setting | value |\n|---|---|",
            *settings,
            "",
        ]
    )


def summary(job: Job, files: Sequence[FileOfRows]) -> str:
    """The text of ``batch.json``: the settings, and every file with its digest."""
    content: dict[str, Any] = {
        "rows": sum(file.rows for file in files),
        "errors": sum(file.errors for file in files),
        "input_digest": job.digest,
        "settings": job.identity,
        "files": [
            {
                "file": f.file,
                "rows": f.rows,
                "errors": f.errors,
                "bytes": f.size,
                "sha256": f.sha256,
            }
            for f in files
        ],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return str(text).replace("|", "\\|").replace("\n", " ")
