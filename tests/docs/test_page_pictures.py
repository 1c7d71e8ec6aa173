"""The pictures of the pages show what the package draws now, in its colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from page_blocks import DOCS
from PIL import Image

PICTURES = sorted((DOCS / "images").glob("*.png"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_has_all_its_colours(path: Path) -> None:
    """A palette of few colours once made the blue square of the first picture a red one."""
    with Image.open(path) as picture:
        assert picture.mode in ("RGB", "RGBA")
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("word", ["red", "circle", "blue", "square"])
def test_the_map_of_a_word_lies_over_the_image(word: str) -> None:
    """Where the map is weak the image keeps its colours, as overlays have it."""
    with Image.open(DOCS / "images" / "image.png") as image:
        plain = np.asarray(image.convert("RGB")).astype(int)
    with Image.open(DOCS / "images" / f"word-{word}.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    assert drawn.shape == plain.shape
    change = np.abs(drawn - plain).max(axis=-1)
    assert change.min() <= 2 and change.max() > 60
