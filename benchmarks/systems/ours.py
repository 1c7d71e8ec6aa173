"""This package, with its options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.sizes import TOKENS
from benchmarks.systems.finding import short
from benchmarks.systems.stage import FIRST_WORD, Stage
from benchmarks.systems.system import Answers, Box, System, UnavailableError
from diffusers_rdaam import Attribution
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.errors import RDAAMError
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels.dispatch import choose
from diffusers_rdaam.pipelines.assemble import ImageContext, assemble
from diffusers_rdaam.recording.installation import (
    install,
    install_self_attention,
    remember,
    restore,
)
from diffusers_rdaam.recording.recorder import Recorder
from diffusers_rdaam.tokens.alignment import align

# Queries of 50 steps at the size of SDXL stay below.
BUDGET = 2**33
ON_A_DEVICE = ("maps_only", "fused")


class Ours(System):
    """One template.

    Args:
        what: it records, in a few words.
        options: of :class:`RDAAMProcessor`.
    """

    predecessor = False

    def __init__(self, what: str, **options: Any) -> None:
        self.title = f"ours, {what}"
        self.options = options
        self.kept_by_width = options.get("keep") == "queries"
        self.visits_self = bool(options.get("self_attention"))

    def load(self) -> None:
        """Make a template; kernels of a device need that device."""
        backend = self.options.get("backend", "auto")
        if backend in ON_A_DEVICE and not torch.cuda.is_available():
            raise UnavailableError("no CUDA device here")
        try:
            self._template()
            choice = choose(backend, device=torch.device("cuda"))
        except RDAAMError as error:
            raise UnavailableError(short(error)) from error
        # What takes its place has a row of its own.
        if backend in ON_A_DEVICE and choice.name != backend:
            raise UnavailableError(choice.reason)

    def _template(self) -> RDAAMProcessor:
        return RDAAMProcessor(budget=BUDGET, **self.options)

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """As a pipeline of this package records its call."""
        family, template = UNetFamily(), self._template()
        sites, self_attention = family.sites(stage.unet), family.self_attention_sites(stage.unet)
        before = remember((*sites, *self_attention))
        recorder = Recorder(stage.pipe, family, template.options)
        try:
            install(sites, template)
            install_self_attention(self_attention, template)
            with recorder:
                yield _Answers(recorder, stage)
        finally:
            restore(before)


class _Answers(Answers):
    def __init__(self, recorder: Recorder, stage: Stage) -> None:
        self._recorder, self._stage = recorder, stage
        self._attribution: Attribution | None = None

    def first(self) -> object:
        records = self._recorder.read()
        tokenizer = self._stage.pipe.tokenizer
        contexts = [
            ImageContext(align(tokenizer, text, TOKENS), self._stage.size, {})
            for text in self._stage.prompts
        ]
        self._attribution = assemble(records, contexts)[0]
        return self.word(FIRST_WORD)

    def word(self, word: str) -> object:
        assert self._attribution is not None
        return self._attribution.word(word).values

    def box(self, box: Box) -> object:
        assert self._attribution is not None
        return self._attribution.region(box).words
