"""OVAM (vpulab/ovam): the queries of all steps kept, any text's maps computed from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from benchmarks.systems.finding import find
from benchmarks.systems.stage import FIRST_WORD, Stage
from benchmarks.systems.system import Answers, System


class Ovam(System):
    """``StableDiffusionHooker`` on the pipeline."""

    title = "OVAM"
    note = (
        "no map during the run; the first row's queries alone, which are the negative prompt's; "
        "without the middle block; the word's text is given encoded"
    )
    kept_by_width = True
    module: ModuleType

    def load(self) -> None:
        """Import it."""
        self.module = find("ovam")
        self.version = self.module.__version__

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """Its replacements of the modules' ``forward``."""
        with self.module.StableDiffusionHooker(stage.pipe) as hooker:
            yield _Answers(hooker, stage)


class _Answers(Answers):
    def __init__(self, hooker: Any, stage: Stage) -> None:
        self._hooker, self._stage = hooker, stage
        self._evaluate: Any = None

    def first(self) -> object:
        # Here it makes queries of what it has kept until now.
        self._stage.end()
        self._evaluate = self._hooker.get_ovam_callable(expand_size=self._stage.size)
        return self.word(FIRST_WORD)

    def word(self, word: str) -> object:
        tokens = len(self._stage.pipe.tokenizer(word).input_ids)
        return self._evaluate(self._stage.text(tokens))[0, 1]
