"""Which checks of every pipeline class run each time."""

from __future__ import annotations

from pathlib import Path

import pytest

# Every class is compared with the dense attention in every run of the tests. What its stock run
# shows of itself, and the same comparison by the package's own class, are slow for all but these.
MOST_USED = (
    "FluxPipeline",
    "StableDiffusion3Pipeline",
    "QwenImagePipeline",
    "ZImagePipeline",
    "PixArtSigmaPipeline",
    "SanaPipeline",
    "WanPipeline",
)
_OF_MOST_USED = ("test_cases_joint", "test_cases_single", "test_the_class_of_the_package")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the checks of the other classes as slow."""
    here = Path(__file__).parent
    for item in items:
        # A hook in a folder is given the tests of all folders.
        if item.path.parent != here:
            continue
        case = getattr(getattr(item, "callspec", None), "params", {}).get("name")
        if not isinstance(case, str) or case.split()[0] in MOST_USED:
            continue
        if any(part in item.nodeid for part in _OF_MOST_USED):
            item.add_marker(pytest.mark.slow)
