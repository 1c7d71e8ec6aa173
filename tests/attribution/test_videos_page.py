"""The examples of docs/videos.md run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from diffusers_rdaam import FrameMapping, VideoAttribution

PAGE = Path(__file__).parents[2] / "docs" / "videos.md"


def test_examples_run(make_attribution, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stacked = make_attribution(image=False, size=(320, 320), grids=((8 * 21, 8),))
    pixels = np.random.default_rng(0).integers(0, 256, (81, 320, 320, 3), dtype=np.uint8)
    images = [Image.fromarray(one) for one in pixels]
    video = VideoAttribution.of_stacked(stacked, FrameMapping.causal(21, 4), images)
    names = {"video": video, "box": (100, 100, 300, 300)}
    first, second = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    # What needs a model is made by hand.
    asked = [line for line in first.splitlines() if line.startswith("video")][1:]
    assert len(asked) == 3
    for example in ("\n".join(asked), second):
        exec(compile(example, str(PAGE), "exec"), names)
    with Image.open("cat.gif") as animation:
        assert animation.n_frames == 81 and animation.info["duration"] == 100
    assert len(names["timeline"].mass(names["box"])) == 81
