"""The examples of docs/real_images.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam import load_demo_pipeline
from diffusers_rdaam.demo.world import SceneObject, render

PAGE = Path(__file__).parents[2] / "docs" / "real_images.md"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = (SceneObject("red", "circle", 40.0, 45.0, 26.0, (220, 40, 40)),)
    Image.fromarray(render(scene).round().astype(np.uint8)).save("photo.png")
    names: dict[str, Any] = {"pipe": load_demo_pipeline()}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["attribution"].run["latent_error"] < 0.25
