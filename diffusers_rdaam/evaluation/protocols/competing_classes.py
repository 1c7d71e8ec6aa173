"""Protocols in which the classes compete for every pixel: the argmax of their words' maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diffusers_rdaam.evaluation.protocols.protocol import Answers, Asked, Question, Size
from diffusers_rdaam.evaluation.protocols.scores import confusion_of_labels, counts_of_labels
from diffusers_rdaam.evaluation.sample import ClassName, Sample

BACKGROUND = "background"


def classes_there(sample: Sample) -> set[str]:
    """The names of the classes that are truly in an image."""
    return {one.class_name or one.text for one in sample.targets}


def asked_class(one: ClassName, word: str, sample: Sample) -> Asked:
    """A class with all its true pixels, none where the image does not have it.

    Args:
        one: the class.
        word: as the prompt says it.
        sample: the image.
    """
    masks = [t.mask for t in sample.targets if (t.class_name or t.text) == one.name]
    mask = np.logical_or.reduce(masks) if masks else np.zeros_like(sample.scored)
    return Asked(word, one.name, mask)


def true_labels(question: Question, size: Size) -> np.ndarray:
    """``(height, width)`` the number of each pixel's class, from 1; 0 is the background."""
    truth = np.zeros(size, dtype=np.int64)
    for number, one in enumerate(question.asked, start=1):
        truth[one.mask] = number
    return truth


def class_maps(
    question: Question, answers: Answers, size: Size, prepare: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, int]:
    """The maps of the classes, and how many words of true classes the prompt lacks.

    Args:
        question: with the classes.
        answers: with their maps.
        size: height and width of the result.
        prepare: makes a recorded map one of this size, as the protocol compares it.

    Returns:
        ``(1 + classes, height, width)``, of which the first is the background's and 0, as is every
        map that the prompt lacks; and the number of those.
    """
    maps, missing = np.zeros((1 + len(question.asked), *size)), 0
    for number, one in enumerate(question.asked, start=1):
        word_map = answers.map(one.text, one.span)
        if word_map is None:
            missing += bool(one.mask.any())
            continue
        maps[number] = prepare(word_map.values)
    return maps, missing


def label_names(question: Question) -> list[str]:
    """The name of each label: the background's, and those of the classes."""
    return [BACKGROUND, *(one.name for one in question.asked)]


def scores_of_labels(
    question: Question, guess: np.ndarray, truth: np.ndarray, scored: np.ndarray, missing: int
) -> dict[str, Any]:
    """The counts of every class, the right pixels, and the IoU of each true class in the image.

    Args:
        question: with the classes.
        guess: ``(height, width)`` the predicted labels.
        truth: the true ones.
        scored: which pixels count.
        missing: how many words of true classes the prompt lacks; they are scored as not predicted.
    """
    names = label_names(question)
    return {
        "counts": counts_of_labels(guess, truth, names, scored),
        "confusion": confusion_of_labels(guess, truth, names, scored),
        "pixels": [int(((guess == truth) & scored).sum()), int(scored.sum())],
        "words": _words(question, guess, truth, scored),
        "missing": missing,
        "missing_counted": missing,
    }


def _words(
    question: Question, guess: np.ndarray, truth: np.ndarray, scored: np.ndarray
) -> list[dict[str, Any]]:
    found = []
    for number, one in enumerate(question.asked, start=1):
        there = (truth == number) & scored
        if there.any():
            given = (guess == number) & scored
            iou = float((given & there).sum() / (given | there).sum())
            found.append({"text": one.text, "class": one.name, "iou": iou})
    return found
