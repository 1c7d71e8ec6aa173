"""The examples of docs/open_vocabulary.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from diffusers_rdaam import load_demo_pipeline

PAGE = Path(__file__).parents[2] / "docs" / "open_vocabulary.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipe = load_demo_pipeline()

    class Short(type(pipe)):  # type: ignore[misc]
        """Few steps: the page's calls are of a whole run."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, num_inference_steps=2, **kwargs)

    pipe.__class__ = Short
    names: dict[str, Any] = {"pipe": pipe}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 6
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["asked"].words[-1].text == "heart"
    assert names["embedding"].grad is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "circle-token.safetensors",
        "circle.queries.safetensors",
        "circle.safetensors",
        "my-circle.safetensors",
    ]
    assert "<my-circle>" in pipe.tokenizer.get_vocab()
