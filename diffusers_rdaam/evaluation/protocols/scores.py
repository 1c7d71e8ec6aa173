"""The scores of one image: words one after another, and the pixels that are counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from diffusers_rdaam.evaluation.metrics.label_maps import confusion, intersections_and_unions
from diffusers_rdaam.evaluation.protocols.protocol import Answers, Asked, Question, WordMap


def empty_scores() -> dict[str, Any]:
    """The scores of an image before its first word.

    ``words`` has an entry for each word that is scored; ``missing`` counts those that the prompt
    lacks, ``missing_counted`` those of them that are scored nevertheless, as 0, and ``empty`` those
    that have no true pixel, and are not scored.
    """
    return {"words": [], "missing": 0, "missing_counted": 0, "empty": 0}


def counts_of_masks(predicted: np.ndarray, truth: np.ndarray, scored: np.ndarray) -> list[int]:
    """Intersection, union and true pixels of a mask among the scored pixels."""
    return [
        int((predicted & truth & scored).sum()),
        int(((predicted | truth) & scored).sum()),
        int((truth & scored).sum()),
    ]


def counts_of_labels(
    predicted: np.ndarray, truth: np.ndarray, names: Sequence[str], scored: np.ndarray
) -> dict[str, list[int]]:
    """The counts of every class that is predicted or true in an image."""
    cells = confusion(predicted, truth, len(names), ignore=~scored)
    table = np.stack(intersections_and_unions(cells), axis=1)
    return {names[int(i)]: table[i].tolist() for i in np.flatnonzero(table[:, 1])}


def confusion_of_labels(
    predicted: np.ndarray, truth: np.ndarray, names: Sequence[str], scored: np.ndarray
) -> dict[str, dict[str, int]]:
    """Pixels of each true class in each predicted one, without those that are 0."""
    cells = confusion(predicted, truth, len(names), ignore=~scored)
    return {
        names[int(row)]: {names[int(i)]: int(cells[row, i]) for i in np.flatnonzero(cells[row])}
        for row in np.flatnonzero(cells.any(axis=1))
    }


def add_counts(counts: dict[str, list[int]], name: str, values: Sequence[int]) -> None:
    """Add to the counts of a class; several words may be of one."""
    counts[name] = [a + b for a, b in zip(counts.get(name, [0, 0, 0]), values, strict=True)]


def words_to_score(
    question: Question, answers: Answers, scored: np.ndarray, found: dict[str, Any]
) -> Iterator[tuple[int, Asked, WordMap | None]]:
    """Each word with a true pixel: its place in the question, and its map.

    Whether a word without a map is scored nevertheless is what protocols differ in.

    Args:
        question: with the words.
        answers: with their maps.
        scored: ``(height, width)`` which pixels count.
        found: of :func:`empty_scores`. Words without a true pixel are counted as ``empty`` there
            and left out; those without a map are counted as ``missing``, and their map is None.
    """
    for place, one in enumerate(question.asked):
        if not (one.mask & scored).any():
            found["empty"] += 1
            continue
        word_map = answers.map(one.text, one.span)
        if word_map is None:
            found["missing"] += 1
        yield place, one, word_map
