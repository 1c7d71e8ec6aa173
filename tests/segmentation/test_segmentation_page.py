"""The examples of docs/segmentation.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from diffusers_rdaam import load_demo_pipeline

PAGE = Path(__file__).parents[2] / "docs" / "segmentation.md"


@pytest.fixture(scope="module")
def pipe():
    return load_demo_pipeline()


def test_examples_run(pipe, tmp_path, monkeypatch, types_unchecked):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) == 3 and len(text.split()) <= 1200
    names = {"pipe": lambda prompt: pipe(prompt, num_inference_steps=4)}
    names["pipe"].set_attn_processor = pipe.set_attn_processor
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["found"].names == ("circle", "square")
    assert names["drawn"].areas["circle"] == 2500 / 128**2
    with Image.open("mask.png") as mask:
        assert mask.mode == "P"
