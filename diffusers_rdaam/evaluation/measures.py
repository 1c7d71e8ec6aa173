"""The numbers of a table, by name: each a statistic of the scores of images, ready to resample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diffusers_rdaam.evaluation.metrics.intervals import Weighted
from diffusers_rdaam.evaluation.metrics.label_maps import matched_iou, unsupervised_mean_iou
from diffusers_rdaam.evaluation.metrics.overlap import accuracy_over_two_minus_accuracy

# What a protocol says of one image; numbers, lists and texts only, as it goes through JSON.
#   counts   {class: [intersection, union, true pixels]}
#   pixels   [right, scored]
#   words    [{"text", "class", and any of the measures of a word}]
#   missing, empty   words without a map, and without a true pixel
#   sweep    {offset: counts}
#   confusion {segment: {class: pixels}}, and pairs {word: {class: iou}}
Scores = Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """One column of a table.

    Args:
        title: with its unit, as tables print it.
        of: from the scores of images to a weighted statistic of them.
        lower_is_better: of distances and ranks.
    """

    title: str
    of: Callable[[Sequence[Scores]], Weighted]
    lower_is_better: bool = False


def counts_of_classes(
    rows: Sequence[Scores], key: Callable[[Scores], Mapping[str, Sequence[float]]]
) -> tuple[list[str], np.ndarray]:
    """Class names, and ``(3, images, classes)`` intersections, unions and true pixels."""
    names = sorted({name for row in rows for name in key(row)})
    table = np.zeros((3, len(rows), len(names)))
    place = {name: number for number, name in enumerate(names)}
    for number, row in enumerate(rows):
        for name, values in key(row).items():
            table[:, number, place[name]] = values[:3]
    return names, table


def _counts(row: Scores) -> Mapping[str, Sequence[float]]:
    found: Mapping[str, Sequence[float]] = row.get("counts", {})
    return found


def _ratio(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The quotients, NaN where nothing is divided by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lower > 0, upper / lower, np.nan)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is not NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def accumulated_iou(rows: Sequence[Scores]) -> Weighted:
    """Mean over the classes that have a true pixel, of counts added over images."""
    _, (inter, union, true) = counts_of_classes(rows, _counts)

    def value(weights: np.ndarray) -> np.ndarray:
        seen = weights @ true > 0
        return _mean_of_known(np.where(seen, _ratio(weights @ inter, weights @ union), np.nan))

    return value


def all_classes_iou(rows: Sequence[Scores]) -> Weighted:
    """The same over all classes of the data set, a class that never occurs as 0."""
    return _all_classes(rows, _counts)


def _all_classes(
    rows: Sequence[Scores], key: Callable[[Scores], Mapping[str, Sequence[float]]]
) -> Weighted:
    names, (inter, union, _) = counts_of_classes(rows, key)
    classes = max([len(names), *(int(row.get("class_count", 0)) for row in rows)])

    def value(weights: np.ndarray) -> np.ndarray:
        return (weights @ inter / (weights @ union + 1e-8)).sum(axis=1) / max(classes, 1)

    return value


def _at_offset(offset: str, row: Scores) -> Mapping[str, Sequence[float]]:
    found: Mapping[str, Sequence[float]] = row.get("sweep", {}).get(offset, {})
    return found


def best_of_sweep(rows: Sequence[Scores]) -> Weighted:
    """The best of all offsets, chosen on the very images that it is reported of."""
    offsets = sorted({offset for row in rows for offset in row.get("sweep", {})}, key=float)
    curves = [_all_classes(rows, partial(_at_offset, offset)) for offset in offsets]

    def value(weights: np.ndarray) -> np.ndarray:
        if not curves:
            return np.full(len(weights), np.nan)
        return np.stack([curve(weights) for curve in curves]).max(axis=0)

    return value


def overall_iou(rows: Sequence[Scores]) -> Weighted:
    """All intersections over all unions, whatever the class."""
    _, (inter, union, _) = counts_of_classes(rows, _counts)
    return lambda weights: _ratio((weights @ inter).sum(axis=1), (weights @ union).sum(axis=1))


def accuracy(rows: Sequence[Scores]) -> Weighted:
    """Right pixels over scored pixels, added over images."""
    pairs = np.array([row.get("pixels", (0, 0)) for row in rows], dtype=np.float64).reshape(-1, 2)
    return lambda weights: _ratio(weights @ pairs[:, 0], weights @ pairs[:, 1])


def accuracy_as_iou(rows: Sequence[Scores]) -> Weighted:
    """``Acc / (2 - Acc)``, which one paper prints as its mIoU."""
    inner = accuracy(rows)
    return lambda weights: np.array([accuracy_over_two_minus_accuracy(a) for a in inner(weights)])


def mean_of_words(key: str) -> Callable[[Sequence[Scores]], Weighted]:
    """The mean of a number of each (image, word) pair that has it."""

    def of(rows: Sequence[Scores]) -> Weighted:
        known = [
            [word[key] for word in row.get("words", ()) if word.get(key) is not None]
            for row in rows
        ]
        sums = np.array([sum(map(float, values)) for values in known])
        counts = np.array([len(values) for values in known], dtype=np.float64)
        return lambda weights: _ratio(weights @ sums, weights @ counts)

    return of


def mean_of_classes(
    key: str, *, all_classes: bool = False
) -> Callable[[Sequence[Scores]], Weighted]:
    """The mean over classes of the mean over their words; a word without a class is its own.

    With ``all_classes`` a class without a sample counts 0.
    """

    def of(rows: Sequence[Scores]) -> Weighted:
        def pairs(row: Scores) -> dict[str, list[float]]:
            found: dict[str, list[float]] = {}
            for word in row.get("words", ()):
                if word.get(key) is not None:
                    entry = found.setdefault(word.get("class") or word["text"], [0.0, 0.0, 0.0])
                    entry[0] += float(word[key])
                    entry[1] += 1.0
            return found

        names, (sums, counts, _) = counts_of_classes(rows, pairs)
        classes = max([len(names), *(int(row.get("class_count", 0)) for row in rows)])

        def value(weights: np.ndarray) -> np.ndarray:
            ratios = _ratio(weights @ sums, weights @ counts)
            if all_classes:
                return np.nan_to_num(ratios).sum(axis=1) / max(classes, 1)
            return _mean_of_known(ratios)

        return value

    return of


def found_words(rows: Sequence[Scores]) -> Weighted:
    """The share of words with a true pixel that have a map at all."""
    there = np.array([len(row.get("words", ())) for row in rows], dtype=np.float64)
    missing = np.array([row.get("missing", 0) for row in rows], dtype=np.float64)
    counted = np.array([row.get("missing_counted", 0) for row in rows], dtype=np.float64)
    whole = there - counted + missing
    return lambda weights: _ratio(weights @ (whole - missing), weights @ whole)


@dataclass(frozen=True)
class _Cells:
    """The cells of nested dictionaries of all images that any image has; all others are 0.

    Args:
        values: ``(images, cells)``.
        places: row and column of each cell in a table.
        shape: of the table.
    """

    values: np.ndarray
    places: tuple[np.ndarray, np.ndarray]
    shape: tuple[int, int]

    def tables(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        """The table of each draw: the weighted sum over images."""
        for added in weights @ self.values:
            table = np.zeros(self.shape)
            table[self.places] = added
            yield table


def _cells(rows: Sequence[Scores], key: str, *, count: bool = False) -> _Cells:
    """The cells under a key; with ``count`` 1 in place of each value."""
    outer: dict[str, int] = {}
    inner: dict[str, int] = {}
    place: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, float]] = []
    for number, row in enumerate(rows):
        for one, cells in row.get(key, {}).items():
            for two, value in cells.items():
                where = (outer.setdefault(one, len(outer)), inner.setdefault(two, len(inner)))
                cell = place.setdefault(where, len(place))
                entries.append((number, cell, 1.0 if count else float(value)))
    values = np.zeros((len(rows), len(place)))
    for number, cell, value in entries:
        values[number, cell] = value
    at = np.array(list(place), dtype=np.int64).reshape(-1, 2)
    return _Cells(values, (at[:, 0], at[:, 1]), (len(outer), len(inner)))


def hungarian_of_words(rows: Sequence[Scores]) -> Weighted:
    """DAAM's unsupervised score: words matched to classes by their summed IoU."""
    sums, counts = _cells(rows, "pairs"), _cells(rows, "pairs", count=True)

    def value(weights: np.ndarray) -> np.ndarray:
        if not sums.values.size:
            return np.full(len(weights), np.nan)
        pairs = zip(sums.tables(weights), counts.tables(weights), strict=True)
        return np.array([matched_iou(one, other) for one, other in pairs])

    return value


def unsupervised_iou(rows: Sequence[Scores]) -> Weighted:
    """Mean IoU of predicted segments matched to classes by shared pixels over the data set."""
    cells = _cells(rows, "confusion")

    def value(weights: np.ndarray) -> np.ndarray:
        if not cells.values.size:
            return np.full(len(weights), np.nan)
        return np.array([unsupervised_mean_iou(table) for table in cells.tables(weights)])

    return value


MEASURES: dict[str, Measure] = {
    "miou": Measure("mIoU", accumulated_iou),
    "miou_all_classes": Measure("mIoU, absent classes as 0", all_classes_iou),
    "best_on_test": Measure("mIoU, best offset on these images", best_of_sweep),
    "iou_overall": Measure("IoU overall", overall_iou),
    "miou_per_image": Measure("mIoU per image and word", mean_of_words("iou")),
    "best_iou": Measure("IoU, best word", mean_of_words("best_iou")),
    "acc": Measure("Acc", accuracy),
    "acc_over_2_minus_acc": Measure("Acc/(2 - Acc)", accuracy_as_iou),
    "ap": Measure("AP", mean_of_words("ap")),
    "map": Measure("mAP", mean_of_classes("ap")),
    "ap_stacked": Measure("AP of two channels", mean_of_words("ap_stacked")),
    "soft_iou": Measure("soft IoU", mean_of_words("soft_iou")),
    "ioa": Measure("IoA", mean_of_words("ioa")),
    "soft_ioa": Measure("soft IoA", mean_of_words("soft_ioa")),
    "intensity": Measure("predicted area", mean_of_words("intensity")),
    "hungarian": Measure("matched IoU", hungarian_of_words),
    "unsupervised_miou": Measure("unsupervised mIoU", unsupervised_iou),
    "coverage": Measure("words with a map", found_words),
    "pointing": Measure("pointing", mean_of_classes("hit")),
    "pointing_all_classes": Measure(
        "pointing, absent classes as 0", mean_of_classes("hit", all_classes=True)
    ),
    "inside": Measure("energy inside", mean_of_words("inside")),
    "area": Measure("true area", mean_of_words("area")),
    "box_score": Measure("score over the highest", mean_of_words("box_score")),
    "box_lift": Measure("lift over the highest", mean_of_words("box_lift")),
    "hit_at_1": Measure("first word by lift", mean_of_words("hit_at_1")),
    "rank": Measure("rank by lift", mean_of_words("rank"), lower_is_better=True),
    "deletion": Measure("deletion AUC", mean_of_words("deletion"), lower_is_better=True),
    "insertion": Measure("insertion AUC", mean_of_words("insertion")),
    "deletion_random": Measure(
        "deletion AUC, random", mean_of_words("deletion_random"), lower_is_better=True
    ),
    "deletion_inverted": Measure(
        "deletion AUC, inverted map", mean_of_words("deletion_inverted"), lower_is_better=True
    ),
}


def per_class(rows: Sequence[Scores]) -> dict[str, tuple[float, int]]:
    """IoU of each class over all images, and in how many images it truly is."""
    names, (inter, union, true) = counts_of_classes(rows, _counts)
    values = _ratio(inter.sum(axis=0), union.sum(axis=0))
    images = (true > 0).sum(axis=0)
    return {
        name: (float(value), int(count))
        for name, value, count in zip(names, values, images, strict=True)
    }


def headline_of_image(row: Scores) -> float | None:
    """One number of an image, to sort by: the mean of what its words or classes have."""
    for key in ("iou", "hit_at_1", "inside", "ap", "deletion"):
        values = [word[key] for word in row.get("words", ()) if word.get(key) is not None]
        if values:
            mean = float(np.mean([float(value) for value in values]))
            return 1.0 - mean if key == "deletion" else mean
    ratios = [i / u for i, u, t in (v[:3] for v in _counts(row).values()) if t and u]
    return float(np.mean(ratios)) if ratios else None
