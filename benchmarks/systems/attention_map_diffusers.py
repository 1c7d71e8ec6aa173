"""attention-map-diffusers: maps, or queries and keys, of one step or all; a picture a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from PIL import Image

from benchmarks.systems.finding import find
from benchmarks.systems.stage import Stage
from benchmarks.systems.system import Answers, NoSuchQueryError, System


class AttentionMapDiffusers(System):
    """``AttentionCapture`` on the pipeline.

    Args:
        what: it captures, in a few words.
        options: of the capture.
    """

    note = "both rows; its answer is a folder of pictures, one for each word"
    module: ModuleType

    def __init__(self, what: str, **options: Any) -> None:
        self.what, self.options = what, options
        self.title = f"attention-map-diffusers, {what}"
        # Queries and keys, or maps in their place.
        self.kept_by_width = options.get("mode", "fast") == "fast"

    @property
    def name(self) -> str:
        """The version behind the package's name."""
        return f"attention-map-diffusers {self.version}, {self.what}".replace(" ,", ",")

    def load(self) -> None:
        """Import it."""
        self.module = find("attention_map_diffusers")
        self.version = self.module.__version__

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """Its processors and its hooks on the denoiser."""
        with self.module.AttentionCapture(stage.pipe, **self.options) as capture:
            yield _Answers(capture, stage)


class _Answers(Answers):
    def __init__(self, capture: Any, stage: Stage) -> None:
        self._capture, self._stage = capture, stage

    def first(self) -> object:
        height, width = self._stage.size
        images = [Image.new("RGB", (width, height)) for _ in self._stage.prompts]
        with TemporaryDirectory() as folder:
            # With the images it knows that half of the rows are the negative prompt's.
            return self._capture.compute().save(
                folder,
                tokenizer=self._stage.pipe.tokenizer,
                prompts=self._stage.prompts,
                images=images,
            )

    def word(self, word: str) -> object:
        raise NoSuchQueryError("all words with the first answer")
