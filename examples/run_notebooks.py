"""Execute the notebooks of this folder and keep their outputs.

``python examples/run_notebooks.py`` runs all, names choose some (``01 flux``), ``--check`` writes
nothing. Each runs in an empty folder and without a network, and is written back only where no cell
failed and nothing is in its outputs that does not belong there. What is written has no times, paths
or versions of the machine, so that running the notebooks again changes what the models changed.
It needs the extra ``dev``.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
# What the file of one notebook may have, and all of them together, in bytes.
LARGEST, LARGEST_TOGETHER = 600_000, 3_000_000
# Pixels of a kept picture's longer side, and its colours: about half of the bytes.
LONGEST_SIDE, COLOURS = 1000, 256
# Seconds that one cell may take, on a machine that is busy with other work.
LONGEST_CELL = 300
# A cell with this tag is executed, and its outputs are not kept: they are large.
NOT_KEPT = "outputs-not-kept"
# No network, and no progress bars or hints of libraries among the outputs.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # One core is what the notebooks promise to need, and the last bits are those of one thread.
    "OMP_NUM_THREADS": "1",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
# The root of a machine, or a drive: "/home/…", "C:\…". A fraction or a link has no such start.
_MACHINE_PATH = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|usr|opt|work|var|Users)/|\b[A-Z]:\\")
_WARNING = re.compile(r"\w*Warning\b:|\bWARNING\b")
# A picture's second form, of which the PNG is kept.
_TWICE = ("image/jpeg",)
# Progress bars and other widgets, which show nothing without the kernel that made them.
_WIDGET = "application/vnd.jupyter.widget-view+json"


def notebooks() -> list[Path]:
    """All notebooks of this folder, in the order in which they are read."""
    return sorted(FOLDER.glob("*.ipynb"))


class Kernel:
    """Runs notebooks one after the other in one process, which imports the libraries once.

    Nothing is left of the notebook before but what it did to the libraries. Leaving it as a context
    ends the process.
    """

    def __init__(self) -> None:
        self._client = NotebookClient(
            nbformat.v4.new_notebook(), timeout=LONGEST_CELL, kernel_name="python3"
        )

    def run(self, notebook: NotebookNode, folder: str) -> None:
        """Put the outputs that the cells have now into the notebook; ``folder`` is the current one.

        Raises:
            nbclient.exceptions.CellExecutionError: a cell failed.
        """
        forget = f"import os; os.chdir({folder!r}); get_ipython().reset(new_session=True)\n"
        # It counts this cell too.
        forget += "get_ipython().execution_count = 0"
        cell = nbformat.v4.new_code_cell(forget)
        for self._client.nb in (nbformat.v4.new_notebook(cells=[cell]), notebook):
            self._client.execute(env={**os.environ, **QUIET}, cleanup_kc=False)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.nb = nbformat.v4.new_notebook()
        self._client.execute(cleanup_kc=True)


def execute(path: Path, kernel: Kernel | None = None) -> NotebookNode:
    """The notebook with the outputs that its cells have now, in a kernel of its own if None.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        if kernel is not None:
            kernel.run(notebook, folder)
        else:
            with Kernel() as kernel:
                kernel.run(notebook, folder)
    return stable(notebook)


def stable(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without what differs from run to run and from machine to machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            kept = [] if tags and NOT_KEPT in tags else cell.outputs
            kept = [output for output in kept if _WIDGET not in output.get("data", {})]
            cell.outputs = [_stable_output(output) for output in _joined(kept)]
    return notebook


def _joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Printed text that came in several pieces, as one."""
    before: NotebookNode | None = None
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and before is not None and before.get("name") == output.name:
            before.text += output.text
            continue
        if before is not None:
            yield before
        before = output
    if before is not None:
        yield before


def _stable_output(output: NotebookNode) -> NotebookNode:
    if "data" in output:
        data = {kind: value for kind, value in output.data.items() if kind not in _TWICE}
        if "image/png" in data:
            data["image/png"] = _modest(data["image/png"])
        if "text/plain" in data:
            data["text/plain"] = _ADDRESS.sub("", data["text/plain"])
        output.data = nbformat.from_dict(data)
        output.metadata = nbformat.from_dict({})
    return output


def _modest(png: str) -> str:
    """A picture with a palette and of at most ``LONGEST_SIDE`` pixels; one with a palette stays."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    if picture.mode != "RGB":
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture.convert("RGBA"))
        picture = ground.convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    # Heat maps are gradients: without k-means some of their colours are far from what they were.
    small = picture.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    small.save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def texts(output: Mapping[str, Any]) -> str:
    """All that an output says, without its pictures."""
    parts = [output.get("text", ""), output.get("evalue", "")]
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/"):
            parts.append(re.sub(r'src="data:image[^"]*"', "", str(value)))
    return "\n".join(parts)


def faults(notebook: NotebookNode) -> list[str]:
    """What must not be in the outputs of a notebook, or is missing: a line for each."""
    found = []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, 1):
        if cell.execution_count != number:
            found.append(f"cell {number} was not executed in order: {cell.execution_count}")
        for output in cell.outputs:
            said = texts(output)
            if output.output_type == "error":
                found.append(f"cell {number} has an error: {output.ename}: {output.evalue[:200]}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} wrote to stderr: {said[:300]!r}")
            for pattern, what in ((_MACHINE_PATH, "a path of a machine"), (_WARNING, "a warning")):
                for match in pattern.finditer(said):
                    around = said[max(0, match.start() - 60) :][:160]
                    found.append(f"cell {number} shows {what}: {around!r}")
    if not any(cell.outputs for cell in cells):
        found.append("no cell has an output")
    return found


def written(notebook: NotebookNode) -> str:
    """The text of the file."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _run(path: Path, *, check: bool) -> list[str]:
    """Execute one notebook and write it where it has no faults, which are returned."""
    start = time.perf_counter()
    try:
        notebook = execute(path)
    except (CellExecutionError, CellTimeoutError) as error:
        # The others are still run; a kernel that was ended, as by an interrupt, ends all of it.
        return [str(error)]
    nbformat.validate(notebook)
    found, text = faults(notebook), written(notebook)
    if len(text.encode()) > LARGEST:
        found.append(f"it has {len(text.encode()) / 1e3:.0f} kB, and at most {LARGEST / 1e3:.0f}")
    if not found and not check:
        path.write_text(text, encoding="utf-8")
    seconds, size = time.perf_counter() - start, len(text.encode()) / 1e3
    print(f"{path.name}: {seconds:.0f} s, {size:.0f} kB", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks; 0 where all are well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the names of those to run; all if none")
    parser.add_argument("--check", action="store_true", help="execute and write nothing")
    options = parser.parse_args(arguments)
    chosen = [
        path
        for path in notebooks()
        if not options.names or any(name in path.name for name in options.names)
    ]
    if not chosen:
        names = ", ".join(path.name for path in notebooks())
        parser.error(f"no notebook has {options.names} in its name. There are: {names}")
    failed = {path.name: found for path in chosen if (found := _run(path, check=options.check))}
    for name, found in failed.items():
        print(f"{name}:", *found, sep="\n  ", file=sys.stderr)
    together = sum(path.stat().st_size for path in notebooks())
    if together > LARGEST_TOGETHER:
        print(f"All notebooks have {together} bytes, over {LARGEST_TOGETHER}.", file=sys.stderr)
    return int(bool(failed) or together > LARGEST_TOGETHER)


if __name__ == "__main__":
    sys.exit(main())
