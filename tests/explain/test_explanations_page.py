"""The examples of docs/explanations.md run, with two steps in place of twenty."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "explanations.md"


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 4
    for example in examples:
        shorter = example.replace("num_inference_steps=20", "num_inference_steps=3")
        shorter = shorter.replace("last_steps=5", "last_steps=1")
        exec(compile(shorter, str(PAGE), "exec"), names)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["saliency.png", "without.png"]
    printed = capsys.readouterr().out
    assert "rank correlation with ablation: attention" in printed
    assert names["late"].memory.calls == 1 and names["painted"].pixels is not None
