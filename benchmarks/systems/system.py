"""What every system is asked for, however it records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from benchmarks.systems.stage import Stage

Box = tuple[int, int, int, int]


class UnavailableError(Exception):
    """A system cannot run here; the text says why, in a few words."""


class NoSuchQueryError(Exception):
    """A system has no such question; the text says what its users do instead."""


class Answers:
    """What can be asked of one recorded run."""

    def first(self) -> object:
        """From the end of the run to the first word's map, or the first region's words."""
        raise NoSuchQueryError("nothing is recorded")

    def word(self, word: str) -> object:
        """A word's map at the image's size."""
        raise NoSuchQueryError("no such query")

    def box(self, box: Box) -> object:
        """The words of a box in pixels: left, top, right, bottom."""
        raise NoSuchQueryError("no such query")


class System(ABC):
    """Something that records attention, or stock.

    Attributes:
        title: what the row is called; the version follows where :meth:`load` finds one.
        note: what its numbers do not tell by themselves.
        kept_by_width: whether what it keeps depends on the UNet's channels.
        visits_self: whether self-attention must be computed for what it keeps.
        predecessor: whether it is somebody else's.
    """

    title = ""
    note = ""
    version = ""
    kept_by_width = False
    visits_self = False
    predecessor = True

    @property
    def name(self) -> str:
        """The title with the version."""
        return f"{self.title} {self.version}".strip()

    @abstractmethod
    def load(self) -> None:
        """Import it.

        Raises:
            UnavailableError: it cannot run here.
        """

    @abstractmethod
    def recording(self, stage: Stage) -> AbstractContextManager[Answers]:
        """Record the denoiser calls in the block, as in one run of the pipeline."""
