"""Batches of the tiny pipeline at its smallest size, made in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffusers_rdaam import AutoRDAAMPipelineForText2Image, BatchSummary, run_batch

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"
SMALL: dict[str, Any] = {"steps": 1, "height": 64, "width": 96, "progress": False}
Run = Callable[..., BatchSummary]


@pytest.fixture(scope="session")
def pipe() -> Any:
    """The tiny pipeline, recording."""
    found = AutoRDAAMPipelineForText2Image.from_pretrained(TINY, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """The options of a batch of small images."""
    return SMALL


@pytest.fixture
def make(pipe: Any) -> Run:
    """``run_batch`` with the tiny pipeline, one step an image."""

    def run(source: Any, out: Path, **options: Any) -> BatchSummary:
        return run_batch(source, out, pipe=pipe, model="tiny", **(SMALL | options))

    return run


def digests(out: Path) -> dict[str, str]:
    """The digest of every file of a batch but the lock."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture(scope="session")
def digests_of() -> Callable[[Path], dict[str, str]]:
    """:func:`digests`."""
    return digests
