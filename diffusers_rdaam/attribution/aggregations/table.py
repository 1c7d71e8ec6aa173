"""The table of aggregations: a new recipe is a file here and a line in the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from textwrap import indent
from typing import Any

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation, Recipe
from diffusers_rdaam.attribution.aggregations.automatic import AUTO
from diffusers_rdaam.attribution.aggregations.daam import DAAM
from diffusers_rdaam.attribution.aggregations.expert_layer import EXPERT_LAYER
from diffusers_rdaam.attribution.aggregations.goca import GOCA
from diffusers_rdaam.attribution.aggregations.gram_column import GRAMCOL
from diffusers_rdaam.attribution.aggregations.head_relevance import HRV
from diffusers_rdaam.attribution.aggregations.late_half import LATE_HALF
from diffusers_rdaam.attribution.aggregations.mean import INFORMATION, MEAN, RDAAM
from diffusers_rdaam.attribution.aggregations.ovam import OVAM
from diffusers_rdaam.attribution.aggregations.refined import REFINED
from diffusers_rdaam.attribution.aggregations.rms import RMS
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.suggestions import unknown_name

_TABLE = (
    *(MEAN, REFINED, RMS, AUTO, LATE_HALF, INFORMATION),
    *(DAAM, OVAM, RDAAM, EXPERT_LAYER, GOCA, HRV, GRAMCOL),
)

AggregationLike = str | Aggregation


class Aggregations(Mapping[str, Aggregation]):
    """All aggregations by name; printed, a table of them."""

    def __init__(self, table: tuple[Aggregation, ...]) -> None:
        self._by_name = {one.name: one for one in table}

    def __getitem__(self, name: str) -> Aggregation:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return "\n".join(_entry(one) for one in self.values())

    def _repr_html_(self) -> str:
        rows = [
            "".join(f"<td>{escape(text)}</td>" for text in (one.name, *_facts(one).values()))
            for one in self.values()
        ]
        titles = ("name", *_facts(next(iter(self.values()))))
        head = "".join(f"<th>{escape(title)}</th>" for title in titles)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><tr>{head}</tr>{body}</table>"


def _facts(one: Aggregation) -> dict[str, str]:
    return {
        "formula": one.formula,
        "needs": ", ".join(one.needs) or "nothing",
        "memory": one.memory,
        "sums to": one.sums_to,
        "reference": one.reference,
        "measured": one.measured,
    }


def _entry(one: Aggregation) -> str:
    facts = "\n".join(f"{name}: {text}" for name, text in _facts(one).items())
    return f"{one.name}\n{indent(facts, '  ')}"


def aggregations() -> Aggregations:
    """Every aggregation that ``attribution.aggregated(name)`` makes, by name.

    Each has its formula, what a run must keep for it, the memory that takes, its reference, and
    what it was measured to gain or to harm.

    Example:
        >>> aggregations()["rms"].needs
        ('squares',)
    """
    return Aggregations(_TABLE)


def recipe_of(aggregation: AggregationLike, options: Mapping[str, Any]) -> Recipe | None:
    """The recipe of a name, or of an aggregation of the user's; None for the mean.

    Raises:
        InputError: there is no such aggregation, or it does not have one of the options.
    """
    if isinstance(aggregation, str):
        known = aggregations()
        if aggregation not in known:
            raise InputError(unknown_name(aggregation, known, "an aggregation"))
        aggregation = known[aggregation]
    if not isinstance(aggregation, Aggregation):
        raise InputError(
            f"An aggregation is given by its name or as an Aggregation; got {aggregation!r:.200}."
        )
    recipe = aggregation.recipe(**options)
    return None if aggregation is MEAN else recipe
