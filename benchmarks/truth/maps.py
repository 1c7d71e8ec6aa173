"""Maps of words against the objects: IoU, average precision, pointing and boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.embedded_model import bounding_box
from benchmarks.truth.scenes import Scene
from benchmarks.truth.scores import (
    THRESHOLDS,
    box_iou,
    iou_curve,
    points_inside,
)
from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.attribution.self_grid import finest, largest_size
from diffusers_rdaam.errors import RDAAMError
from diffusers_rdaam.evaluation.metrics.overlap import intersection_over_union
from diffusers_rdaam.evaluation.metrics.ranking import average_precision

WORDS = ("phrase", "colour", "shape")
# What makes a word's map of an attribution.
MapOf = Callable[[Attribution, str], HeatMap]
# Whose self-attention refines: the last site's (the package's default), that of all sites together,
# or the one site of each image that is chosen without labels.
Sites = Literal["last", "all", "chosen"]


def queries(name: str) -> dict[str, str]:
    """What is asked for of an object, by kind of word: all of its name, or half of it."""
    colour, shape = name.split()
    return {"phrase": name, "colour": colour, "shape": shape}


@dataclass(frozen=True)
class Way:
    """One way to make a word's map.

    Args:
        map_of: makes it, of an attribution.
        sites: whose self-attention that attribution has.
    """

    map_of: MapOf
    sites: Sites = "last"


def ways(model: str) -> dict[str, Way]:
    """Every way to make a word's map: raw, refined, and each aggregation of the package.

    Args:
        model: the name of the model, whose layers recipes with a layer of their own are given.
    """
    found = {
        "mean": Way(_plain),
        "mean, refined": Way(_refined_mean),
        "mean, refined by all sites": Way(_refined_mean, "all"),
        "mean, refined by a chosen site": Way(_refined_mean, "chosen"),
    }
    for name in aggregation_names():
        map_of = _aggregated(name, OPTIONS.get(model, {}).get(name, {}))
        # GoCA weighs the layers by the self-attention of each.
        found[name] = Way(map_of, "chosen" if name == "goca" else "last")
        if name in REFINED_TOO:
            found[f"{name}, refined"] = Way(_refined(map_of))
    return found


# Named as the mean and its refinement already are.
_SAME = {"mean", "refined"}
REFINED_TOO = {"rms", "late_half", "auto"}
# Of recipes whose defaults belong to another checkpoint.
OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "stable-diffusion": {
        "expert_layer": {"layer": "up_blocks.1.attentions.1"},
        "goca": {"reference": "up_blocks.1.attentions.1"},
    },
    "flux": {
        "expert_layer": {"layer": "single_transformer_blocks.1.attn"},
        "goca": {"reference": "single_transformer_blocks.1.attn"},
    },
}
# What these need, queries and texts of their own, is not in the files of recordings.
UNSTORED = ("goca", "ovam")


def with_sites(attribution: Attribution, sites: Sites) -> Attribution:
    """The attribution of a run that kept the self-attention of each site, with that of some.

    Args:
        attribution: one without self-attention stays as it is.
        sites: which.
    """
    grids = attribution.self_grids
    if not grids or sites == "chosen":
        return attribution
    if sites == "all":
        return replace(attribution, self_grids=(finest(grids),))
    last = last_site([grid.sites[0] for grid in grids if grid.size == largest_size(grids)])
    return replace(attribution, self_grids=tuple(one for one in grids if last in one.sites))


def last_site(names: Sequence[str]) -> str:
    """The site that runs last, as ``self_attention="last"`` has it."""
    decoder = [name for name in names if "up_blocks." in name]
    return (decoder or list(names))[-1]


def aggregation_names() -> list[str]:
    """The aggregations of the package but for those that are the mean and its refinement."""
    return [name for name in aggregations() if name not in _SAME]


def _plain(attribution: Attribution, query: str) -> HeatMap:
    return attribution.word(query)


def _refined_mean(attribution: Attribution, query: str) -> HeatMap:
    return attribution.word(query).refined()


def _aggregated(name: str, options: dict[str, Any]) -> MapOf:
    return lambda attribution, query: attribution.aggregated(name, **options).word(query)


def _refined(map_of: MapOf) -> MapOf:
    return lambda attribution, query: map_of(attribution, query).refined()


@dataclass
class MapScores:
    """Of one way and one kind of word: a number of each scene, the mean of its two objects.

    Args:
        curves: ``(scenes, thresholds)``, IoU at each of ``THRESHOLDS``.
        default, precision, pointing, box: IoU of ``.mask()``, average precision, the pointing game
            and IoU of ``.box()`` with the object's box.
        peak: the highest value.
    """

    curves: list[np.ndarray] = field(default_factory=list)
    default: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)
    box: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def add(self, found: Sequence[tuple[HeatMap, np.ndarray]]) -> None:
        """Add a scene: each object's map and mask."""
        values = [heat_map.values.numpy() for heat_map, _ in found]
        masks = [mask for _, mask in found]
        pairs = list(zip(values, masks, strict=True))
        self.curves.append(np.mean([iou_curve(*pair) for pair in pairs], axis=0))
        self.precision.append(_mean(average_precision(*pair) for pair in pairs))
        self.pointing.append(_mean(points_inside(*pair) for pair in pairs))
        self.default.append(
            _mean(intersection_over_union(one.mask().numpy(), mask) for one, mask in found)
        )
        self.box.append(
            _mean(
                box_iou(one.box().as_tuple(), bounding_box(mask).as_tuple()) for one, mask in found
            )
        )
        self.peak.append(_mean(float(one.max()) for one in values))

    def best_threshold(self) -> int:
        """The place of the threshold with the highest mean IoU."""
        return int(np.mean(self.curves, axis=0).argmax())

    def at(self, threshold: int) -> list[float]:
        """The IoU of each scene at the threshold of that place."""
        return [float(curve[threshold]) for curve in self.curves]


Table = dict[str, dict[str, MapScores]]


def measure_maps(found: Iterable[Scene], asked: dict[str, Way]) -> tuple[Table, dict[str, str]]:
    """Every way on every usable scene that serves it, by way and by kind of word.

    Returns:
        The scores, and for the ways that no scene serves the package's reason.
    """
    table: Table = {}
    refused: dict[str, str] = {}
    for scene in found:
        if not scene.usable:
            continue
        records = {sites: with_sites(scene.attribution, sites) for sites in get_args(Sites)}
        for name, way in asked.items():
            try:
                maps = _maps(scene, records[way.sites], way.map_of)
            except RDAAMError as error:
                refused[name] = str(error)
                continue
            scores = table.setdefault(name, {kind: MapScores() for kind in WORDS})
            for kind in WORDS:
                scores[kind].add(maps[kind])
    return table, {name: why for name, why in refused.items() if name not in table}


def _maps(
    scene: Scene, record: Attribution, map_of: MapOf
) -> dict[str, list[tuple[HeatMap, np.ndarray]]]:
    """Each object's map and mask, by kind of word."""
    return {
        kind: [(map_of(record, queries(name)[kind]), mask) for name, mask in scene.masks.items()]
        for kind in WORDS
    }


def threshold_text(place: int) -> str:
    """The threshold at a place, as tables write it."""
    return f"{THRESHOLDS[place]:.2f}"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
