"""Counting live tensors looks at every object of the process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def libraries_are_not_looked_through() -> Iterator[None]:
    """Half a million objects of the libraries, once a module and not at every count."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
