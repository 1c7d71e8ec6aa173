"""RunRecord: what the recorder asks of every record of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from diffusers_rdaam.attention.observer import Observer
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.record import RunInfo
from diffusers_rdaam.families import DenoiserCall, RowsOfBranches
from diffusers_rdaam.recording.progress import Progress


class VocabularyEntry(NamedTuple):
    """The record of a text that is not the prompt: its tokens, and its maps.

    Args:
        prompt: the text.
        grids: its maps on each grid, largest grid first.
        kept: what was kept separately by step and layer; None where nothing was.
        facts: what its attribution's ``run`` says beyond what that of the prompt does.
    """

    prompt: Prompt
    grids: tuple[Grid, ...]
    kept: KeptMaps | None = None
    facts: RunInfo | None = None


class RunRecord(Protocol):
    """One kind of data that a run records: maps of a text, self-attention, queries.

    Each record also has a ``read`` of its results, which differ from record to record.

    Attributes:
        sites: the attention modules that it may record.
    """

    sites: tuple[Site, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the budget that it takes, known from :meth:`begin` on."""

    def begin(
        self, call: DenoiserCall, images: int, calls: int | None, spent: int = 0
    ) -> str | None:
        """Allocate the buffers of a run.

        Args:
            call: the first denoiser call.
            images: rows of a branch.
            calls: how many calls there will be, as far as that is known.
            spent: bytes of the budget that other records take.

        Returns:
            The memory cost in words, where it is to be reported before the first step.

        Raises:
            InputError: the memory cost is over the budget, or an option does not suit the denoiser.
        """

    def targets(
        self,
        rows: RowsOfBranches,
        progress: Progress,
        *,
        call: DenoiserCall | None = None,
        scratch: int | None = None,
    ) -> Mapping[str, Observer]:
        """The observer of each recorded site during one denoiser call, by the site's name.

        Args:
            rows: the rows of each branch that is recorded.
            progress: the run's.
            call: the denoiser call; None in tests of the buffers alone.
            scratch: the number of a call that may turn out not to make the image; None for others.
        """

    def after_call(self) -> None:
        """Store what the call that just ended has recorded."""

    def confirm(self, scratch: int, rows: RowsOfBranches, progress: Progress) -> None:
        """Add a call to the run that was recorded into scratch buffers."""

    def forget(self, scratch: int) -> None:
        """Leave a call out that was recorded into scratch buffers."""

    def zero_(self) -> None:
        """Forget everything that was recorded; keep the memory."""

    def release(self) -> None:
        """Give the memory back after a failure; nothing will be read."""
