"""The examples of docs/attribution.md run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch
from PIL import Image

from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.geometry.region import Box, Mask

PAGE = Path(__file__).parents[2] / "docs" / "attribution.md"
SITES = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2": (64, 64),
    "mid_block.attentions.0.transformer_blocks.0.attn2": (16, 16),
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2": (64, 64),
}


def test_examples_run(make_kept, tmp_path, monkeypatch, capsys, types_unchecked):
    monkeypatch.chdir(tmp_path)
    options = {"size": (512, 512), "image": False, "sites": SITES}
    attribution, _ = make_kept(**options, dtype=torch.float16)
    negative, _ = make_kept(("steps",), "a blurry dog", **options)
    attribution = dataclasses.replace(
        attribution,
        image=Image.new("RGB", (512, 512)),
        negative_attribution=negative,
        mask=Mask(Box(50, 50, 200, 300).coverage((512, 512))),
        self_grids=(SelfGrid(torch.eye(256).half() * 2 + 1, 250, (16, 16)),),
    )
    names = {"attribution": attribution, "image": Image.new("RGB", (512, 512), (9, 9, 9))}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(examples) == 10
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["attribution"].image is names["image"]
    assert [grid.weight for grid in names["mixed"].grids] == [0.2, 1.0]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "cat.gif",
        "cat.png",
        "segments.png",
        "where.npy",
    ]
    printed = capsys.readouterr().out
    assert "blurry" in printed and "The region is 15.3% of the image." in printed
