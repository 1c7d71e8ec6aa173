"""Counting live tensors looks at every object of the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def libraries_are_not_looked_through() -> Iterator[None]:
    """What was imported since the tests were collected; measurements look through all again."""
    gc.collect()
    gc.freeze()
    yield
    gc.freeze()
