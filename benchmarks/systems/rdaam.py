"""rdaam (Muhammad-Ahmad-Waseem/rdaam): all maps of all steps kept, one answer array at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from benchmarks.systems.finding import find
from benchmarks.systems.stage import Stage
from benchmarks.systems.system import Answers, Box, NoSuchQueryError, System


class Rdaam(System):
    """Its hook manager on the UNet, its processing after that."""

    title = "rdaam"
    note = "of several images the average; a word's map is a new run"
    module: ModuleType

    def load(self) -> None:
        """Import it."""
        self.module = find("rdaam")
        self.version = self.module.__version__

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """A hook on every attention module that has ``attn2`` in its name."""
        manager = self.module.AttentionHookManager()
        handles = manager.register_hooks(stage.unet)
        try:
            yield _Answers(self.module, manager, stage)
        finally:
            for handle in handles:
                handle.remove()


class _Answers(Answers):
    def __init__(self, module: ModuleType, manager: Any, stage: Stage) -> None:
        self._module, self._manager, self._stage = module, manager, stage
        self._map: Any = None
        self._tokens: list[str] = []

    def first(self) -> object:
        # Its hooks log their exceptions and go on.
        if not self._manager.attention_maps:
            raise RuntimeError("its hooks recorded nothing")
        tokenizer = self._stage.pipe.tokenizer
        self._tokens = [
            tokenizer.decode([token]) for token in tokenizer.encode(self._stage.prompts[0])
        ]
        height, width = self._stage.size
        self._map = self._module.process_attention_maps(
            self._manager.attention_maps, (width, height)
        )
        return self.box((0, 0, width, height))

    def box(self, box: Box) -> object:
        return self._module.extract_bbox_distribution(self._map, list(box), self._tokens)

    def word(self, word: str) -> object:
        raise NoSuchQueryError("generates again")
