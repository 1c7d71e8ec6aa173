"""The toys of ``tests/pipelines`` serve here too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
# Its assertions say what differed.
pytest.register_assert_rewrite("alike")

# One of each kind: plain, XL with nine channels, with a second network, without guidance, video.
SHORT = (
    "StableDiffusion",
    "StableDiffusionXLInpaint",
    "StableDiffusionControlNetImg2Img",
    "LatentConsistencyModel",
    "AnimateDiff",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Diffusers' tests of the other classes are of the same kinds, and take many minutes."""
    from toys import ALL_CASES

    here = Path(__file__).parent
    for item in items:
        if not item.path.is_relative_to(here) or "[" not in item.name:
            continue
        name = item.name.partition("[")[2].rstrip("]").partition("-")[0]
        if name in ALL_CASES and name not in SHORT:
            item.add_marker(pytest.mark.slow)
