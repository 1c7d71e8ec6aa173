"""Absence: why a part that a run can keep is not in a record, and how to come by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MAPS = ("steps", "layers", "heads", "squares")
QUERIES = "queries"
SELF_ATTENTION = "self_attention"
EVERY_PART = (*MAPS, QUERIES, SELF_ATTENTION)


@dataclass(frozen=True)
class Absence:
    """Why a part is not there.

    Args:
        why: the rest of a sentence that begins with ``which``.
        remedy: a sentence; None where recording the run otherwise is what helps.
    """

    why: str
    remedy: str | None = None


NOT_KEPT = Absence("this run did not keep")
QUERIES_OF_A_FILE = Absence(
    "files of attributions do not hold",
    "Save them as well, with attribution.queries.save(path), and load both: "
    "Attribution.load(file).with_queries(Queries.load(path)).",
)
QUERIES_OF_A_VIDEO_FILE = Absence(
    "files of videos do not hold",
    "Where the run kept those of each frame, save them as well, with video[7].queries.save(path): "
    "VideoAttribution.load(file)[7].with_queries(Queries.load(path)).",
)
NOT_IN_THE_FILE = Absence(
    "the file does not have: its run did not keep them, or save(path, kept=False) left them out"
)
QUERIES_OF_A_FRAME = Absence(
    "a frame of this video does not have: its denoiser sees all frames together",
    "Take an aggregation that works without them; aggregations() lists what each needs.",
)
QUERIES_OF_A_SELECTION = Absence(
    "a selection of steps, heads or of other layers and grids does not have",
    "Ask the whole attribution, or keep some queries only: "
    "attribution.with_queries(attribution.queries.select(steps=…)).",
)
NOT_IN_THE_MEAN = Absence(
    "the mean of several runs has only where all of them kept the same of it, and queries never",
    "Ask the attribution of each run.",
)
NOT_REFINED = Absence(
    "a refined attribution does not have",
    "Ask the attribution that it was refined from.",
)
OF_THE_PROMPT_ONLY = Absence(
    "only the attribution of the prompt has, not that of another text",
    "Ask the attribution of the prompt, or take an aggregation that works without.",
)


def and_left_out(
    before: Mapping[str, Absence], absence: Absence, names: Iterable[str]
) -> dict[str, Absence]:
    """The absences of a record from which parts were left out; earlier ones stay as they are."""
    return {**dict.fromkeys(names, absence), **before}
