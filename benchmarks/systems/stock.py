"""Stock diffusers: what all are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import diffusers

from benchmarks.systems.stage import Stage
from benchmarks.systems.system import Answers, System


class Stock(System):
    """Records nothing."""

    title = "stock diffusers"
    version = diffusers.__version__
    predecessor = False

    def load(self) -> None:
        """It is there."""

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """Leave the pipeline as it is."""
        yield Answers()
