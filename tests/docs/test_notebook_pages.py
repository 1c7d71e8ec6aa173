"""Notebooks as pages of the site."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from benchmarks import write_site
from benchmarks.notebook_page import notebook_page, title_of
from benchmarks.write_site import site_page

PIXEL = base64.b64encode(b"not really a picture").decode()


def _notebook(path: Path, *outputs: dict, title: str = "# A question\n\nFind *it*.") -> Path:
    cells = [
        {"cell_type": "markdown", "source": [title]},
        {"cell_type": "code", "source": ["print('``` a')"], "outputs": list(outputs)},
    ]
    path.write_text(json.dumps({"cells": cells}))
    return path


def test_cells_and_outputs(tmp_path: Path) -> None:
    notebook = _notebook(
        tmp_path / "one.ipynb",
        {"output_type": "stream", "text": ["two\n", "lines\n"]},
        {"output_type": "display_data", "data": {"image/png": PIXEL, "text/plain": ["no"]}},
        {"output_type": "execute_result", "data": {"text/html": "<b>a\n\nb</b>"}},
        {
            "output_type": "execute_result",
            "data": {"text/html": "<iframe></iframe>", "text/plain": "an attribution"},
        },
    )
    text = notebook_page(notebook, tmp_path)
    assert text.startswith("# A question\n\nFind *it*.\n\n````python\nprint('``` a')\n````\n\n")
    assert "```text\ntwo\nlines\n```" in text
    assert "![Output of the cell above](one-1-1.png)" in text and "iframe" not in text
    assert (tmp_path / "one-1-1.png").read_bytes() == b"not really a picture"
    assert "<div><b>a\nb</b></div>" in text and text.endswith("```text\nan attribution\n```\n")


def test_titles(tmp_path: Path) -> None:
    assert title_of(_notebook(tmp_path / "one.ipynb")) == ("A question", "Find *it*.")
    with pytest.raises(ValueError, match=r"two.ipynb does not begin with a cell of text"):
        title_of(_notebook(tmp_path / "two.ipynb", title="no title"))


def test_links_from_and_to_tutorials() -> None:
    assert site_page("[a](../docs/words.md#which-word)", "examples") == (
        "[a](../words.md#which-word)"
    )
    assert site_page("[a](02.ipynb), [b](flux.html)", "examples") == (
        '[a](../tutorials/02.md), <a href="../examples/flux.html">b</a>'
    )
    assert site_page("[a](../examples/02.ipynb)") == "[a](tutorials/02.md)"
    picture = '<img src="../docs/images/a.png">'
    assert site_page(picture, "examples") == '<img src="../images/a.png">'


def test_pictures_stay_pictures(tmp_path: Path) -> None:
    picture = {"output_type": "display_data", "data": {"image/png": PIXEL}}
    text = notebook_page(_notebook(tmp_path / "one.ipynb", picture), tmp_path)
    assert "![Output of the cell above](one-1-0.png)" in site_page(text, "examples")
    assert site_page("![a picture](images/a.png)") == "![a picture](images/a.png)"


def test_the_page_of_tutorials_has_every_notebook(tmp_path: Path, monkeypatch) -> None:
    examples = tmp_path / "examples"
    examples.mkdir()
    _notebook(examples / "02.ipynb", title="# Second\n\nText.")
    _notebook(examples / "01.ipynb", title="# First\n\nAfter it you can\n\n* ask,\n* answer.")
    (examples / "flux.html").write_text("")
    monkeypatch.setattr(write_site, "EXAMPLES", examples)
    assert write_site._write_tutorials(tmp_path / "tutorials") == 3
    index = (tmp_path / "tutorials" / "index.md").read_text()
    assert index.index("## [First](01.md)") < index.index("## [Second](02.md)")
    assert "After it you can\n\n* ask,\n* answer." in index
    assert '<a href="../examples/flux.html">flux</a>' in index
    assert (tmp_path / "tutorials" / "01.md").is_file()
