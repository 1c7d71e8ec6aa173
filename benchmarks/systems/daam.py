"""DAAM (castorini/daam): running sums of each head's maps, words answered from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from PIL import Image

from benchmarks.systems.finding import find
from benchmarks.systems.stage import FIRST_WORD, Stage
from benchmarks.systems.system import Answers, System


class Daam(System):
    """``trace`` on the pipeline."""

    title = "DAAM"
    note = "without the middle block's site; one prompt and one image a run"
    module: ModuleType

    def load(self) -> None:
        """Import it."""
        self.module = find("daam")
        self.version = self.module.__version__

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """Its processors, and its hooks on the pipeline."""
        # It makes a folder whether or not it saves anything.
        with (
            TemporaryDirectory() as folder,
            self.module.trace(stage.pipe, data_dir=folder) as trace,
        ):
            # Here it learns the prompt.
            stage.begin()
            yield _Answers(trace, stage)


class _Answers(Answers):
    def __init__(self, trace: Any, stage: Stage) -> None:
        self._trace = trace
        height, width = stage.size
        self._image = Image.new("RGB", (width, height))
        self._map: Any = None

    def first(self) -> object:
        self._map = self._trace.compute_global_heat_map()
        return self.word(FIRST_WORD)

    def word(self, word: str) -> object:
        return self._map.compute_word_heat_map(word).expand_as(self._image)
