"""Words of regions: whether the object's words come first, and whether background says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.truth.maps import with_sites
from benchmarks.truth.regions import KINDS, background_boxes, regions_of
from benchmarks.truth.scenes import Scene, object_pixels
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.region_words import Ranking
from diffusers_rdaam.geometry.region import Box

RANKINGS: tuple[Ranking, ...] = ("lift", "score")
BACKGROUND_BOXES = 3


@dataclass
class WordScores:
    """Of one attribution's way and ranking: a number of each scene, by kind of region.

    Args:
        first: whether the first word is the object's colour or shape.
        both: whether the first two are both of them.
        other: whether the object's phrase is over the other object's.
        object_signs, background_signs: how often the answer says that no word made the region.
    """

    first: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    both: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    other: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    object_signs: list[float] = field(default_factory=list)
    background_signs: list[float] = field(default_factory=list)


def measure_words(
    found: Iterable[Scene], *, refined: bool, background: bool = True
) -> dict[Ranking, WordScores]:
    """Both rankings on every usable scene.

    Args:
        found: the scenes.
        refined: asks the refined attributions.
        background: also asks boxes of background.
    """
    scores = {ranking: WordScores() for ranking in RANKINGS}
    for scene in found:
        if not scene.usable:
            continue
        attribution = with_sites(scene.attribution, "last")
        attribution = attribution.refined() if refined else attribution
        for ranking, score in scores.items():
            _add_objects(score, scene, attribution, ranking)
        if background:
            _add_background(scores["lift"], scene, attribution)
    return scores


def _add_objects(
    score: WordScores, scene: Scene, attribution: Attribution, ranking: Ranking
) -> None:
    asked: list[dict[str, Any]] = []
    for name, other in (scene.names, scene.names[::-1]):
        answers = {
            kind: attribution.region(region, ranking=ranking)
            for kind, region in regions_of(scene.masks[name]).items()
        }
        asked.append({kind: _outcome(answer, name, other) for kind, answer in answers.items()})
    for kind in KINDS:
        for place, lists in enumerate((score.first, score.both, score.other)):
            lists[kind].append(float(np.mean([outcome[kind][place] for outcome in asked])))
    score.object_signs.append(float(np.mean([outcome["tight box"][3] for outcome in asked])))


def _outcome(answer: Any, name: str, other: str) -> tuple[bool, bool, bool, bool]:
    """Whether the first word, the first two and the phrase are right; whether no word made it."""
    own = set(name.split())
    top = [word.text for word in answer.top(2)]
    phrases = [ranked_value(answer, text) for text in (name, other)]
    return top[0] in own, set(top) == own, phrases[0] > phrases[1], says_none(answer)


def ranked_value(answer: Any, phrase: str) -> float:
    """What the answer ranks by, of a phrase."""
    score = float(answer[phrase])
    if answer.ranking != "lift":
        return score
    columns = list(answer.prompt.find(phrase).columns)
    return score / max(float(answer.levels[columns].sum()), 1e-30)


def _add_background(score: WordScores, scene: Scene, attribution: Attribution) -> None:
    boxes = _background(scene)
    if boxes:
        signs = [says_none(attribution.region(box)) for box in boxes]
        score.background_signs.append(float(np.mean(signs)))


def _background(scene: Scene) -> list[Box]:
    # Of all coloured pixels: a third object that the prompt does not name is not background.
    objects = [*scene.masks.values(), object_pixels(scene.attribution.image)]
    rng = np.random.default_rng(scene.seed)
    return background_boxes(_parts(objects), rng, BACKGROUND_BOXES)


def contrasts(found: Iterable[Scene]) -> dict[str, list[list[float]]]:
    """The contrast of the boxes of each usable scene, by kind: of background, and of objects."""
    asked: dict[str, list[list[float]]] = {}
    for scene in found:
        if not scene.usable:
            continue
        boxes: dict[str, list[Any]] = {"background": list(_background(scene))}
        for mask in scene.masks.values():
            for kind, region in regions_of(mask).items():
                if kind.endswith("box"):
                    boxes.setdefault(kind, []).append(region)
        for kind, each in boxes.items():
            values = [scene.attribution.region(box).contrast for box in each]
            known = [value for value in values if value is not None]
            if known:
                asked.setdefault(kind, []).append(known)
    return asked


def _parts(masks: list[np.ndarray]) -> list[np.ndarray]:
    """The connected areas of the union of masks."""
    from scipy import ndimage

    labels, count = ndimage.label(np.any(masks, axis=0))
    return [labels == label for label in range(1, count + 1)]


def says_none(answer: Any) -> bool:
    """Whether the answer says, as it is printed, that no word made the region."""
    return any("no word" in line for line in answer.remarks())
