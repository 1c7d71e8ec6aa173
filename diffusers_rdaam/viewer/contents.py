"""What a viewer's page holds, as plain data: texts, numbers, images and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

MapsKind = Literal["all", "refined", "step", "layer"]


@dataclass(frozen=True, eq=False)
class ViewerGrid:
    """The maps of one grid.

    Args:
        maps: ``(columns, height, width)`` float32.
        share: of the whole; the shares of all grids of one choice sum to 1.
        stream: ``"double"`` or ``"single"``; empty where there is one kind of block.
    """

    maps: np.ndarray = field(repr=False)
    share: float
    stream: str = ""


@dataclass(frozen=True, eq=False)
class ViewerMaps:
    """One choice of maps: of the whole run, of one step or layer, or refined ones.

    Args:
        kind: which of these.
        label: what a reader chooses it by, such as the name of a layer.
        cells: the number of values of all its grids, known before they are read.
        read: makes the grids and each column's mean over the whole image; called once.
        threshold: where the masks of these maps begin by default.
    """

    kind: MapsKind
    label: str
    cells: int
    read: Callable[[], tuple[Sequence[ViewerGrid], Sequence[float]]] = field(repr=False)
    threshold: float


@dataclass(frozen=True)
class ViewerWord:
    """A word of a text: its characters, and the columns of its tokens (none if it was not seen)."""

    text: str
    columns: tuple[int, ...]


@dataclass(frozen=True)
class ViewerGroup:
    """All occurrences of one word: what a row of the table ranks.

    Args:
        label: the word, and which text it is of where there are several.
        columns: of all occurrences.
        words: the numbers of the occurrences.
    """

    label: str
    columns: tuple[int, ...]
    words: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ViewerRecord:
    """One text with its maps: the prompt, the negative prompt, or another text.

    Args:
        role: ``"prompt"``, ``"negative"``, ``"vocabulary"``, or ``"switched"`` for the prompt of
            other steps.
        name: what the text is called in the page.
        texts: each text in pieces, in order: what lies between the words as a string, a word as
            its number.
        words: of all texts.
        groups: see :class:`ViewerGroup`, in the order of the text.
        special: the columns of no word, by kind.
        no_word_level: the contrast under which no word made a region; None where that is not asked.
        maps: at least one; the first is that of the whole run.
    """

    role: Literal["prompt", "negative", "vocabulary", "switched"]
    name: str
    texts: tuple[tuple[str | int, ...], ...]
    words: tuple[ViewerWord, ...]
    groups: tuple[ViewerGroup, ...]
    special: Mapping[str, tuple[int, ...]]
    no_word_level: float | None
    maps: tuple[ViewerMaps, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ViewerSelfGrid:
    """The self-attention on one grid, times what it would be if it were the same everywhere.

    Args:
        size: height and width of the grid.
        share: of the whole; the shares of all grids sum to 1.
        read: makes ``(keys, height, width)`` float32: for each position how much all others attend
            to it.
    """

    size: tuple[int, int]
    share: float
    read: Callable[[], np.ndarray] = field(repr=False)

    @property
    def cells(self) -> int:
        """The number of values."""
        return (self.size[0] * self.size[1]) ** 2


@dataclass(frozen=True, eq=False)
class ViewerPart:
    """The maps of one image, or of all frames that were decoded from one latent frame."""

    records: tuple[ViewerRecord, ...] = field(repr=False)
    self_grids: tuple[ViewerSelfGrid, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class ViewerFrame:
    """An image, where it was decoded, and the number of the part that has its maps."""

    image: Image.Image | None = field(repr=False)
    part: int = 0
    label: str = ""


@dataclass(frozen=True, eq=False)
class ViewerContents:
    """One panel of the page: an image, or the frames of a video.

    Args:
        title: a line; the prompt.
        image_size: height and width in pixels.
        frames: one of an image, several of a video.
        parts: what the frames refer to.
        facts: about the run, by name.
    """

    title: str
    image_size: tuple[int, int]
    frames: tuple[ViewerFrame, ...]
    parts: tuple[ViewerPart, ...]
    facts: Mapping[str, str | int | float | bool | None]

    @property
    def cells(self) -> int:
        """The number of values of all maps."""
        records = (record for part in self.parts for record in part.records)
        maps = sum(maps.cells for record in records for maps in record.maps)
        return maps + sum(grid.cells for part in self.parts for grid in part.self_grids)

    @property
    def has_finer_records(self) -> bool:
        """Whether there is more than the maps of the whole run."""
        records = (record for part in self.parts for record in part.records)
        return any(part.self_grids for part in self.parts) or any(
            len(record.maps) > 1 for record in records
        )


@runtime_checkable
class Viewable(Protocol):
    """What can be shown: an attribution of an image or of a video."""

    def viewer_contents(self, *, kept: bool = True) -> ViewerContents:
        """What of it a page holds; ``kept=False`` leaves finer records out."""
        ...
