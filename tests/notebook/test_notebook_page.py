"""The examples of docs/notebook.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from diffusers_rdaam.notebook.frame import LARGEST_CELL

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"


def test_examples_run(make_attribution, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_attribution()
    made.save("cat.safetensors")
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 5
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    viewer = names["viewer"]
    assert viewer.word == "cat" and viewer.box == (0, 0, 32, 32)
    first = made.region((8, 8, 40, 40))[0]
    words = [word.text for word in made.region((0, 0, 32, 32))[:2]]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{first.text} {first.lift}", f"(0, 0, 32, 32) {words}"]


def test_the_page_says_the_limit() -> None:
    assert f"**at most\n{LARGEST_CELL / 1e6:g} MB**" in PAGE.read_text(encoding="utf-8")
