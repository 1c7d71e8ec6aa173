"""ImageRecord: everything that a run has recorded of one image, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.recording.buffers.step_accumulators import ImageMaps
from diffusers_rdaam.recording.records.run_record import VocabularyEntry


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """Everything that a run has recorded of one image.

    Args:
        text: the maps of the prompt.
        negative: the maps of the negative prompt; None where they are not kept, or where no call
            had one. Their steps are those of the prompt; steps without guidance add nothing.
        self_grids: the self-attention of each chosen grid.
        vocabulary: the maps of the other texts, in order.
        queries, negative_queries: the queries of the conditional and of the unconditional branch,
            where they are kept.
    """

    text: ImageMaps
    negative: ImageMaps | None = None
    self_grids: tuple[SelfGrid, ...] = ()
    vocabulary: tuple[VocabularyEntry, ...] = ()
    queries: Queries | None = None
    negative_queries: Queries | None = None
