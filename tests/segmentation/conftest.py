"""Hand-made maps and data sets, for which no model runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from labelled_images import SIZE, labelled, picture
from PIL import Image

from diffusers_rdaam import HeatMap
from diffusers_rdaam.segmentation.classes import object_classes
from diffusers_rdaam.segmentation.folder import SegmentationFolder
from diffusers_rdaam.segmentation.sample import SampleFacts


@pytest.fixture
def image() -> Image.Image:
    return picture()


@pytest.fixture
def bump(image) -> Callable[..., HeatMap]:
    """A smooth map around a place, over the image."""

    def make(x: float, y: float, *, wide: float = 5.0, threshold: float = 0.5) -> HeatMap:
        rows, columns = torch.meshgrid(
            torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float(), indexing="ij"
        )
        values = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * wide**2))
        return HeatMap(values, "bump", image=image, threshold=threshold)

    return make


@pytest.fixture
def data_set(tmp_path) -> SegmentationFolder:
    """Two images: a cat; a cat and a dog."""
    folder = SegmentationFolder(tmp_path / "set", object_classes(["cat", "dog"]), {"steps": 4})
    for id, prompt, segmentation in (
        ("one", "a cat", labelled(cat=40)),
        ("two", "a cat and a dog", labelled(cat=64, dog=33)),
    ):
        folder.add(SampleFacts(id, prompt, 7, segmentation.areas), segmentation)
    return folder
