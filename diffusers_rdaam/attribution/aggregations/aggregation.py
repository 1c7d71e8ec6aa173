"""Aggregation and Recipe: how a word's map is made of what a run kept, with what is known of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusers_rdaam.attribution.kept_maps import KeptMaps
from diffusers_rdaam.attribution.left_out import (
    MAPS,
    NOT_KEPT,
    QUERIES,
    SELF_ATTENTION,
)
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.attribution.self_attention.refinement import (
    Refinement,
    refine,
    refining_grid,
)
from diffusers_rdaam.attribution.thresholds import DEFAULT_THRESHOLD, attention_of
from diffusers_rdaam.errors import NoAttributionError
from diffusers_rdaam.geometry.exact import in_full_precision
from diffusers_rdaam.geometry.grid import enlarge
from diffusers_rdaam.shapes import Column, Size
from diffusers_rdaam.suggestions import check_keywords

# What an aggregation may need besides the base quantity, and how a run keeps it.
AXES = (*MAPS, QUERIES)
# A word's map at a height and width: (record, match, size, **options).
MapFunction = Callable[..., Column]


@dataclass(frozen=True)
class Aggregation:
    """A named recipe by which sites, heads and denoiser calls become one map of a word.

    Args:
        name: by which it is asked for.
        formula: of the map, in one line, with ``P`` the probability of a token of the word in a
            denoiser call at a site and head.
        maps: the function that makes a word's map: ``(record, match, size, **options)``, with the
            height and width of the result. Its keyword-only arguments are the options.
        needs: what a run must keep for it: of ``"steps"``, ``"layers"``, ``"heads"``,
            ``"squares"``, ``"queries"`` and ``"self_attention"``; empty where every run keeps it.
        memory: what that takes, in words.
        reference: the paper or code that it comes from.
        measured: its gain or harm on images of the embedded models, in words.
        sums_to: what the maps of all columns sum to at a pixel, in words.
        quantity: what the values are, for scales.
        threshold: where the masks of its maps begin by default, on the map stretched to 0 to 1.
        joint_threshold: the same of models whose softmax runs over text and image together;
            ``threshold`` if not given.
        refined_threshold: of its maps corrected by self-attention; that of the refined mean if not
            given.
    """

    name: str
    formula: str
    maps: MapFunction = field(repr=False)
    needs: tuple[str, ...] = ()
    memory: str = "nothing more than every run keeps"
    reference: str = ""
    measured: str = "not measured"
    sums_to: str = "nothing in particular"
    quantity: str = "aggregated attention"
    threshold: float = DEFAULT_THRESHOLD
    joint_threshold: float | None = None
    refined_threshold: float | None = None

    def threshold_of(self, run: Mapping[str, Any]) -> float:
        """The default threshold of its maps, from the facts about a run."""
        if self.joint_threshold is None or attention_of(run) != "joint":
            return self.threshold
        return self.joint_threshold

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        parameters = inspect.signature(self.maps).parameters.values()
        return tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)

    def recipe(self, **options: Any) -> Recipe:
        """The aggregation with options.

        Raises:
            InputError: it does not have one of them.
        """
        check_keywords(options, self.options, f"aggregated({self.name!r}, …)")
        return Recipe(self, tuple(sorted(options.items())))


@dataclass(frozen=True)
class Recipe:
    """An aggregation with its options, which makes the maps of words."""

    aggregation: Aggregation
    options: tuple[tuple[str, Any], ...] = ()

    def check(self, record: Record) -> None:
        """Refuse a record of a run that did not keep what the aggregation needs.

        Raises:
            NoAttributionError: it did not; with how to keep it.
        """
        missing = [name for name in self.aggregation.needs if name not in kept_of(record)]
        if missing:
            raise NoAttributionError(_refusal(record, self.aggregation.name, missing))

    @in_full_precision
    def pixels(self, record: Record, match: Match, size: Size) -> Column:
        """The map of what was found, ``(height, width)`` float32.

        Raises:
            NoAttributionError: the run did not keep what the aggregation needs.
            InputError: an option has an invalid value.
        """
        self.check(record)
        return self.aggregation.maps(record, match, size, **dict(self.options))

    @in_full_precision
    def refined_pixels(
        self, record: Record, match: Match, size: Size, method: Refinement
    ) -> Column:
        """The map of the whole word, refined by self-attention and not divided by other words'.

        Raises:
            NoAttributionError: the run did not keep its self-attention, or what :meth:`pixels`
                needs.
        """
        grid = refining_grid(record)
        word = self.pixels(record, match, grid.size).flatten()[None]
        return enlarge(refine(grid, word, method).view(grid.size).clamp(min=0.0), *size)

    def __str__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options)
        return f"{self.aggregation.name!r}{options}"


def kept_of(record: Record) -> set[str]:
    """What a run kept, by the names of :class:`Aggregation`'s ``needs``."""
    kept: set[str] = set() if record.kept is None else set(record.kept.axes)
    # Every probability is there where steps, layers and heads are, and so is its square.
    if kept == {"steps", "layers", "heads"} or all(g.squares is not None for g in record.grids):
        kept.add("squares")
    if record.queries is not None:
        kept.add("queries")
    if record.self_grids:
        kept.add(SELF_ATTENTION)
    return kept


def kept_maps(record: Record) -> KeptMaps:
    """What was kept separately, of a record whose recipe was checked."""
    assert record.kept is not None
    return record.kept


def _named(needs: list[str]) -> str:
    words = {
        "squares": "the mean squares",
        "queries": "the image's queries",
        SELF_ATTENTION: "the self-attention",
    }
    parts = [words.get(name, f"the maps of single {name}") for name in needs]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _refusal(record: Record, name: str, missing: list[str]) -> str:
    """What an aggregation needs, why it is not there, and how to come by it."""
    reasons = [(record.left_out.get(one, NOT_KEPT), one) for one in missing]
    parts, remedies = [], []
    for absence in dict.fromkeys(reason for reason, _ in reasons):
        names = [one for reason, one in reasons if reason == absence]
        parts.append(f"{_named(names)}, which {absence.why}")
        remedies.append(absence.remedy or f"Record with {_advice(record, names)}.")
    return f"The aggregation {name!r} needs {'; and '.join(parts)}. {' '.join(remedies)}"


def _advice(record: Record, missing: list[str]) -> str:
    # What it did keep is named too: who follows the advice wants to lose none of it.
    wanted = kept_of(record) | set(missing)
    names = [f'"{name}"' for name in AXES if name in wanted]
    options = []
    if names:
        options.append(f"keep={names[0] if len(names) == 1 else '(' + ', '.join(names) + ')'}")
    if SELF_ATTENTION in wanted:
        options.append("self_attention=True")
    return f"RDAAMProcessor({', '.join(options)})"
