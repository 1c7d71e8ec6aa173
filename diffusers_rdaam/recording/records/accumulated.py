"""AccumulatedRecord: what the records whose sites add to heat-map accumulators have in common."""

from __future__ import annotations

from collections.abc import Iterable

from diffusers_rdaam.families import RowsOfBranches
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator
from diffusers_rdaam.recording.progress import Progress
from diffusers_rdaam.recording.records.run_record import RunRecord


class AccumulatedRecord(RunRecord):
    """A list of accumulators, with a second list for each call that may not make the image.

    Args:
        buffers: an earlier run's accumulators.
    """

    def __init__(self, buffers: Iterable[HeatMapAccumulator] = ()) -> None:
        self.buffers = list(buffers)
        self._scratch: dict[int, list[HeatMapAccumulator]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return sum(buffer.shape.nbytes for buffer in self.buffers)

    def buffers_of_call(self, scratch: int | None, times: int = 1) -> list[HeatMapAccumulator]:
        """The accumulators that one denoiser call adds to.

        Args:
            scratch: the number of a call that may turn out not to make the image; None for others.
            times: how often each site adds to them.
        """
        if scratch is not None:
            made = [HeatMapAccumulator(buffer.shape) for buffer in self.buffers]
            return self._scratch.setdefault(scratch, made)
        for buffer in self.buffers:
            buffer.make_room(times)
        return self.buffers

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Add a call to the run that was recorded into scratch buffers."""
        for buffer, other in zip(self.buffers, self._scratch.get(scratch, ()), strict=False):
            buffer.absorb(other)

    def forget(self, scratch: int) -> None:
        """Leave a call out that was recorded into scratch buffers."""
        for buffer in self._scratch.get(scratch, ()):
            buffer.zero_()

    def after_call(self) -> None:
        """Do nothing: the sites have added to the buffers."""

    def zero_(self) -> None:
        """Forget everything that was recorded; keep the memory."""
        for buffer in self.buffers:
            buffer.zero_()

    def release(self) -> None:
        """Give the memory back after a failure."""
        self.buffers = []
