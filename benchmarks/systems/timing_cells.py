"""Of every system, side by side: the time of a denoiser call, its output, its peak memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.systems.clock import Clock, clock_of, rounds, timed
from benchmarks.systems.finding import short
from benchmarks.systems.memory_use import peak_bytes
from benchmarks.systems.restoring import recorded_by, same_bits
from benchmarks.systems.stage import Stage
from benchmarks.systems.stock import Stock
from benchmarks.systems.system import System
from benchmarks.timing import Sample
from diffusers_rdaam.families.unet import UNetFamily


@dataclass(frozen=True)
class CallCells:
    """What a denoiser call costs with one system.

    Args:
        failure: why there is nothing else.
        call: seconds of the whole call.
        inside: of these in the recorded modules.
        extra: of these over stock's in the same modules, round by round.
        same: whether the output had stock's bits in every round.
        restored: whether stock's output had its bits again after the system.
        left: what the system did not put back itself.
        peak: bytes during a call over stock's during one.
    """

    failure: str | None = None
    call: Sample | None = None
    inside: Sample | None = None
    extra: Sample | None = None
    same: bool | None = None
    restored: bool | None = None
    left: tuple[str, ...] = ()
    peak: int | None = None


class _Candidate:
    """One system's timed call; after an exception it is not called again."""

    def __init__(self, system: System, stage: Stage, clock: Clock, reference: list[Tensor]):
        self.system, self.stage, self.clock, self.reference = system, stage, clock, reference
        self.groups = groups_of(stage)
        self.failure: str | None = None
        self.same = True
        self.left: list[str] = []

    def __call__(self) -> tuple[float, ...]:
        if self.failure is None:
            try:
                return self._timed()
            except Exception as error:
                self.failure = short(error)
        return (math.nan,) * (1 + len(self.groups))

    def _timed(self) -> tuple[float, ...]:
        outputs: list[Tensor] = []
        self.left.clear()
        self.stage.announce(1)
        with recorded_by(self.system, self.stage, self.left):
            taken = timed(lambda: outputs.extend(self.stage.outputs()), self.groups, self.clock)
        self.same = self.same and same_bits(self.reference, outputs)
        return taken

    def peak(self) -> int | None:
        """Bytes over what was there before the call; None where it cannot be called."""
        if self.failure is not None:
            return None
        self.stage.announce(1)
        try:
            with recorded_by(self.system, self.stage):
                return peak_bytes(self.stage.call, self.stage.work.device)
        except Exception as error:
            self.failure = short(error)
            return None


def groups_of(stage: Stage) -> tuple[list[Any], list[Any]]:
    """The modules that are recorded: of the text, and of the image itself."""
    return stage.sites, [site.module for site in UNetFamily().self_attention_sites(stage.unet)]


def call_cells(
    stage: Stage, systems: Sequence[System], *, number: int, warm_up: bool
) -> dict[str, CallCells]:
    """Time all systems in interleaved rounds; the first of them must be stock.

    Args:
        stage: whose denoiser they record.
        systems: loaded.
        number: of rounds.
        warm_up: whether each is called once before; stock after each of them then too.

    Raises:
        ValueError: the first is not stock.
    """
    if not systems or not isinstance(systems[0], Stock):
        raise ValueError("Stock comes first: all others are compared with it.")
    clock = clock_of(stage.work.device)
    reference = stage.outputs()
    candidates = {
        system.name: _Candidate(system, stage, clock, reference)
        for system in systems
        # Self-attention is in a whole UNet only, or on a stage that visits it.
        if stage.work.part == "unet" or stage.work.visits_self or not system.visits_self
    }
    restored: dict[str, bool] = {}
    if warm_up:
        for name, candidate in candidates.items():
            candidate()
            restored[name] = same_bits(reference, stage.outputs())
    taken = rounds(candidates, number)
    if not warm_up:
        # Stock's own rounds came after theirs.
        same = candidates[systems[0].name].same and same_bits(reference, stage.outputs())
        restored = dict.fromkeys(candidates, same)
    peaks = {name: candidate.peak() for name, candidate in candidates.items()}
    stock = systems[0].name
    return {
        name: _cells(candidate, (taken[name], taken[stock]), (peaks[name], peaks[stock]), restored)
        for name, candidate in candidates.items()
    }


def _cells(
    candidate: _Candidate,
    taken: tuple[tuple[Sample, ...], tuple[Sample, ...]],
    peaks: tuple[int | None, int | None],
    restored: dict[str, bool],
) -> CallCells:
    """Of a candidate's times and peak, and stock's."""
    name = candidate.system.name
    if candidate.failure is not None:
        return CallCells(failure=candidate.failure, restored=restored[name])
    (call, *inside), (_, *base) = taken
    if not candidate.system.visits_self:
        # Its own attention is then stock's.
        inside, base = inside[:1], base[:1]
    peak, stock_peak = peaks
    return CallCells(
        call=call,
        inside=_sum(inside),
        extra=_sum(inside).minus(_sum(base)),
        same=candidate.same,
        restored=restored[name],
        left=tuple(candidate.left),
        peak=None if peak is None or stock_peak is None else peak - stock_peak,
    )


def _sum(samples: Sequence[Sample]) -> Sample:
    return Sample(tuple(map(sum, zip(*(sample.seconds for sample in samples), strict=True))))
