"""Counts of a predicted label map against the true one: what an mIoU is accumulated from."""

from __future__ import annotations

import numpy as np

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.metrics.assignment import best_columns

# No class: pixels that are not scored.
IGNORED = 255


def confusion(
    predicted: np.ndarray, truth: np.ndarray, classes: int, *, ignore: np.ndarray | None = None
) -> np.ndarray:
    """How many pixels of each true class are given each class: ``(predicted, truth)`` integers.

    Args:
        predicted, truth: ``(height, width)`` class numbers from 0.
        classes: how many there are.
        ignore: pixels that do not count, whatever is predicted there.

    Raises:
        InputError: the sizes differ, or a scored pixel has a number that is not a class.
    """
    if predicted.shape != truth.shape:
        raise InputError(
            f"The predicted label map is {predicted.shape} and the true one {truth.shape}: both "
            "are (height, width) of one size."
        )
    scored = np.ones(truth.shape, dtype=bool) if ignore is None else ~ignore
    pairs = predicted[scored].astype(np.int64), truth[scored].astype(np.int64)
    for name, numbers in zip(("predicted", "true"), pairs, strict=True):
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < classes:
            raise InputError(
                f"The {name} label map has the number {int(numbers.max())}, and there are "
                f"{classes} classes, from 0. Mark pixels without a class in ignore=."
            )
    cells = np.bincount(pairs[0] * classes + pairs[1], minlength=classes * classes)
    return cells.reshape(classes, classes)


def intersections_and_unions(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: pixels that are right, pixels that are it in either map, pixels that are it.

    Args:
        counts: of :func:`confusion`, or a sum of several.
    """
    right, given, true = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return right, given + true - right, true


def mean_iou(counts: np.ndarray, *, all_classes: bool = False) -> float:
    """Mean IoU over the classes, of counts that were added over a data set.

    Args:
        counts: of :func:`confusion`, added over images.
        all_classes: also those without a true pixel, as 0: a class that never occurs pulls the
            mean down. Without it they are left out, whatever was predicted, as detectron2 does.

    Returns:
        NaN where no class has a pixel.
    """
    right, union, true = intersections_and_unions(counts)
    if all_classes:
        return float((right / (union + 1e-8)).mean())
    seen = true > 0
    return float((right[seen] / union[seen]).mean()) if seen.any() else float("nan")


def matched_classes(counts: np.ndarray) -> np.ndarray:
    """Which predicted segment is which class, so that most pixels are right (Hungarian matching).

    Args:
        counts: ``(segments, classes)`` pixels, or any gain of a pair, the more the better.

    Returns:
        ``(segments,)`` the number of the class; -1 where there are more segments than classes.
    """
    return best_columns(counts)


def unsupervised_mean_iou(counts: np.ndarray) -> float:
    """Mean IoU after segments were matched to classes by the number of shared pixels.

    Args:
        counts: ``(segments, classes)`` over the whole data set.
    """
    ious = []
    true = counts.sum(axis=0)
    match = {int(label): segment for segment, label in enumerate(matched_classes(counts))}
    for label in np.flatnonzero(true > 0):
        segment = match.get(int(label))
        if segment is None:
            ious.append(0.0)
            continue
        right = counts[segment, label]
        ious.append(float(right / (counts[segment].sum() + true[label] - right)))
    return float(np.mean(ious)) if ious else float("nan")


def matched_iou(sums: np.ndarray, counts: np.ndarray) -> float:
    """DAAM's unsupervised score: the summed IoU of matched words and classes over their number.

    Args:
        sums: ``(words, classes)`` IoU added over images.
        counts: of how many pairs each sum is.
    """
    match = matched_classes(sums)
    pairs = [(row, column) for row, column in enumerate(match) if column >= 0]
    number = sum(counts[pair] for pair in pairs)
    return float(sum(sums[pair] for pair in pairs) / number) if number else float("nan")
