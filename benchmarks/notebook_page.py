"""A notebook with its outputs as a page of the documentation site."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

# What a site shows of an output that comes in several forms, best first.
_PICTURES = {"image/png": "png", "image/jpeg": "jpg"}


def title_of(notebook: Path) -> tuple[str, str]:
    """The title of a notebook, and its first paragraph with the list that follows it, if one does.

    Raises:
        ValueError: its first cell is not a text that begins with a title.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join(cells[0]["source"]) if cells else ""
    if not text.startswith("# "):
        raise ValueError(f"{notebook.name} does not begin with a cell of text and its title.")
    title, _, rest = text[2:].partition("\n")
    paragraphs = [part for part in rest.split("\n\n") if part.strip()]
    with_list = len(paragraphs) > 1 and paragraphs[1].startswith("* ")
    return title.strip(), "\n\n".join(paragraphs[: 2 if with_list else 1]).strip()


def notebook_page(notebook: Path, folder: Path) -> str:
    """The cells of a notebook in Markdown.

    Args:
        notebook: with its outputs.
        folder: where the pictures of its outputs are written, next to the page.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = []
    for number, cell in enumerate(cells):
        source = "".join(cell["source"]).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(_fenced(source, "python"))
            for i, output in enumerate(cell["outputs"]):
                parts.append(_output(output, folder / f"{notebook.stem}-{number}-{i}"))
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any], picture: Path) -> str:
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]).rstrip(), "text")
    data = output.get("data", {})
    for kind, ending in _PICTURES.items():
        if kind in data:
            path = picture.with_suffix(f".{ending}")
            path.write_bytes(base64.b64decode("".join(data[kind])))
            return f"![Output of the cell above]({path.name})"
    html = "".join(data.get("text/html", ""))
    # Scripts and frames of an output belong to a notebook's page; blank lines would end the HTML.
    if html and not re.search(r"<(?:script|iframe|style)", html):
        return "<div>" + re.sub(r"\n\s*\n", "\n", html) + "</div>"
    text = "".join(data.get("text/plain", "")).rstrip()
    return _fenced(text, "text") if text else ""


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"
