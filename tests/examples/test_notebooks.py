"""The notebooks of examples/: their form, their kept outputs, and that they still run."""

from __future__ import annotations

import ast
import base64
import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from script_modules import EXAMPLES, script
from test_wording import _found

import diffusers_rdaam

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# Its pictures are one.
ONE_PICTURE = "08_your_own_family.ipynb"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


run_notebooks = script("run_notebooks")


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _text(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_eight_are_there() -> None:
    assert len(NOTEBOOKS) == 8
    listed = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", (EXAMPLES / "README.md").read_text("utf-8"))
    assert listed == [path.name for path in NOTEBOOKS]
    scripts = re.findall(r"^\| `(\w+\.py)` \|", (EXAMPLES / "README.md").read_text("utf-8"), re.M)
    tools = {"make_viewers.py", "run_notebooks.py"}
    assert set(scripts) == {path.name for path in EXAMPLES.glob("*.py")} - tools


@each
def test_form(path: Path) -> None:
    notebook = _read(path)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    assert "After this notebook you can" in first.source and first.source.count("\n* ") >= 3
    assert "**On a real model**" in first.source, "how to do the same on a model of a user"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in _code(notebook):
        compile(cell.source, f"{path.name}:{cell.id}", "exec")
        assert len(cell.source.splitlines()) <= 45, f"{cell.id} is not a short cell"
    assert not _found(_text(notebook), path.name)


@each
def test_names_are_public(path: Path) -> None:
    """What a notebook imports from the package's face is there, and other modules have it."""
    for cell in _code(_read(path)):
        for node in ast.walk(ast.parse(cell.source)):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            names = [alias.name for alias in node.names]
            if node.module == "diffusers_rdaam":
                assert set(names) <= set(diffusers_rdaam.__all__), cell.id
            elif node.module.startswith("diffusers_rdaam."):
                module = importlib.import_module(node.module)
                missing = [
                    name
                    for name in names
                    if not hasattr(module, name)
                    and importlib.util.find_spec(f"{node.module}.{name}") is None
                ]
                assert not missing, cell.id


@each
def test_links(path: Path) -> None:
    """Links lead to files, and their anchors to headings."""
    text = _text(_read(path))
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    for link in filter(None, (one or other for one, other in links)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = EXAMPLES / name
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M) if anchor else []
        plain = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
        assert not anchor or anchor in plain, link


@each
def test_kept_outputs(path: Path) -> None:
    notebook = _read(path)
    assert run_notebooks.faults(notebook) == []
    assert path.stat().st_size <= run_notebooks.LARGEST
    pictures = [
        output
        for cell in _code(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
        or "<img" in output.get("data", {}).get("text/html", "")
    ]
    assert len(pictures) >= (1 if path.name == ONE_PICTURE else 3), "it shows pictures"
    again = run_notebooks.stable(_read(path))
    assert run_notebooks.written(again) == path.read_text("utf-8"), "written by run_notebooks.py"


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= run_notebooks.LARGEST_TOGETHER


def _with(*outputs: NotebookNode, count: int | None = 1) -> NotebookNode:
    cell = new_code_cell("1", execution_count=count, outputs=list(outputs))
    return new_notebook(cells=[new_markdown_cell("# One"), cell])


def _printed(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


@pytest.mark.parametrize(
    ("notebook", "fault"),
    [
        (_with(), "no cell has an output"),
        (_with(_printed("1"), count=None), "not executed in order"),
        (_with(_printed("1"), count=7), "not executed in order"),
        (_with(_printed("oh", name="stderr")), "stderr"),
        (_with(_printed("in /home/me/x.py")), "a path of a machine"),
        (_with(_printed("'/tmp/abc'")), "a path of a machine"),
        (_with(_printed(r"C:\Users\me")), "a path of a machine"),
        (_with(_printed("UserWarning: mind")), "a warning"),
        (_with(new_output("error", ename="ValueError", evalue="no", traceback=[])), "an error"),
        (
            _with(new_output("display_data", data={"text/html": "<p>/home/me</p>"})),
            "a path of a machine",
        ),
    ],
)
def test_faults_are_found(notebook: NotebookNode, fault: str) -> None:
    assert any(fault in line for line in run_notebooks.faults(notebook))


def test_what_is_well_has_no_faults() -> None:
    picture = {"image/png": "aaaa/tmp/bbbb", "text/plain": "<Figure size 640x480 with 1 Axes>"}
    html = '<img src="data:image/png;base64,/home/zzz"><p>1/2 of https://a.org/home/x</p>'
    shown = [
        new_output("display_data", data=picture),
        new_output("display_data", data={"text/html": html}),
        _printed("a warning comes over 0.25\n"),
    ]
    assert run_notebooks.faults(_with(*shown)) == []


def test_stable_leaves_no_trace_of_the_run() -> None:
    picture = new_output(
        "execute_result",
        data={
            "image/png": _png((8, 8)),
            "image/jpeg": "bb",
            "text/plain": "<PIL.Image.Image image mode=RGB size=8x8 at 0x7F52AA>",
        },
        metadata={"needs_background": "light"},
    )
    bar = new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})
    notebook = _with(_printed("one\n"), _printed("two\n"), bar, picture)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.9"}
    notebook.metadata["widgets"] = {"state": {}}
    notebook.cells[1].metadata = nbformat.from_dict(
        {"execution": {"iopub.execute_input": "2026-01-01"}, "tags": ["kept"]}
    )
    stable = run_notebooks.stable(notebook)
    assert stable.metadata == run_notebooks.METADATA
    cell = stable.cells[1]
    assert cell.metadata == {"tags": ["kept"]}
    printed, shown = cell.outputs
    assert printed.text == "one\ntwo\n"
    assert shown.data == {
        "image/png": shown.data["image/png"],
        "text/plain": "<PIL.Image.Image image mode=RGB size=8x8>",
    }
    assert shown.metadata == {}


def _png(size: tuple[int, int]) -> str:
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_become_smaller_once() -> None:
    large = _png((1200, 600))
    notebook = _with(new_output("display_data", data={"image/png": large}))
    kept = run_notebooks.stable(notebook).cells[1].outputs[0].data["image/png"]
    with Image.open(io.BytesIO(base64.b64decode(kept))) as picture:
        assert picture.size == (1000, 500) and picture.mode == "P"
        shown = np.asarray(picture.convert("RGB")).astype(int)
    expected = np.linspace(0, 255, 500)[:, None, None]
    assert np.abs(shown - expected).max() <= 10, "it looks as it did"
    again = run_notebooks.stable(notebook).cells[1].outputs[0].data["image/png"]
    assert again == kept


def test_large_outputs_are_not_kept() -> None:
    notebook = _with(_printed("1"))
    notebook.cells[1].metadata["tags"] = [run_notebooks.NOT_KEPT]
    assert run_notebooks.stable(notebook).cells[1].outputs == []


def test_a_cell_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "one.ipynb"
    path.write_text(run_notebooks.written(new_notebook(cells=[new_code_cell("1 / 0")])))
    before = path.read_text()
    monkeypatch.setattr(run_notebooks, "FOLDER", tmp_path)
    assert run_notebooks.main([]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert path.read_text() == before


def test_a_name_that_no_notebook_has(capsys) -> None:
    with pytest.raises(SystemExit):
        run_notebooks.main(["quikstart"])
    said = capsys.readouterr().err
    assert "quikstart" in said and "01_quickstart.ipynb" in said


def _kinds(notebook: NotebookNode) -> list[list[str]]:
    outputs = [cell.outputs for cell in _code(notebook)]
    return [[",".join(sorted(one.get("data", {"text": ""}))) for one in some] for some in outputs]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    with run_notebooks.Kernel() as running:
        yield running


@each
def test_it_runs(path: Path, kernel: Any) -> None:
    """Every cell runs, and its outputs are of the kinds that are kept."""
    made = run_notebooks.execute(path, kernel)
    assert run_notebooks.faults(made) == []
    assert _kinds(made) == _kinds(_read(path)), "run python examples/run_notebooks.py"


@pytest.mark.slow
@each
def test_it_runs_alone(path: Path) -> None:
    """As a reader has it, in a new kernel."""
    made = run_notebooks.execute(path)
    assert run_notebooks.faults(made) == []
    assert _kinds(made) == _kinds(_read(path)), "run python examples/run_notebooks.py"


def test_nothing_is_left_of_the_notebook_before(kernel: Any, tmp_path: Path) -> None:
    for name in ("one", "other"):
        path = tmp_path / f"{name}.ipynb"
        cell = new_code_cell("import os\nprint('mine' in globals(), os.listdir())\nmine = 1")
        path.write_text(run_notebooks.written(new_notebook(cells=[cell])))
        (said,) = run_notebooks.execute(path, kernel).cells
        assert said.execution_count == 1 and said.outputs[0].text == "False []\n"
