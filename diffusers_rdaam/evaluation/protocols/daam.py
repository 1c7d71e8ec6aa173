"""DAAM (ACL 2023): the words of a generated image's prompt against masks of its objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from diffusers_rdaam.evaluation.metrics import overlap
from diffusers_rdaam.evaluation.metrics.ranking import average_precision
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    Skipped,
    article,
    asked_targets,
    resized,
    stretched,
    threshold_value,
    words_option,
)
from diffusers_rdaam.evaluation.protocols.scores import (
    add_counts,
    empty_scores,
    words_to_score,
)
from diffusers_rdaam.evaluation.sample import DataSet, Sample

SIDE = 512
TAU = 0.4


@dataclass(frozen=True)
class Daam(Protocol):
    """Each word's map, bicubic, stretched to 0 to 1, over 0.4; the mean IoU of (image, word) pairs.

    Args:
        labels: only targets of these texts or classes are scored; all if not given.
    """

    name: ClassVar[str] = "daam"
    summary: ClassVar[str] = "IoU of words' masks at threshold 0.4, mean over images and words"
    reference: ClassVar[str] = "Tang et al., What the DAAM (ACL 2023); castorini/daam"
    flaws: ClassVar[tuple[str, ...]] = (
        "a word without a prediction is left out, which hides misses (see coverage)",
        "a prediction of another size than its mask is shrunk by bicubic >= 1",
        "the map is stretched to a square of 512 pixels whatever the image's shape",
        "the interval is over words, and the words of one image depend on each other",
    )
    metrics: ClassVar[tuple[str, ...]] = (
        *("miou_per_image", "miou", "ap", "soft_iou", "ioa", "soft_ioa", "intensity"),
        *("best_iou", "hungarian", "coverage"),
    )
    published_metrics: ClassVar[tuple[str, ...]] = (
        *("miou_per_image", "intensity", "best_iou", "hungarian", "coverage"),
    )

    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", words_option("labels", self.labels))

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """The words of the sample's own prompt; a prompt of its words where it has none."""
        asked = tuple(
            one
            for one in asked_targets(sample)
            if self.labels is None or one.name in self.labels or one.text in self.labels
        )
        if not asked:
            return Skipped("it has no target" + (" of the labels" if self.labels else ""))
        return Question(sample.prompt or article([one.text for one in asked]), asked)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """IoU and the other measures of each word, and of each word with each class."""
        scored = self.scored_pixels(sample)
        found = empty_scores()
        predictions: dict[str, np.ndarray] = {}
        counts: dict[str, list[int]] = {}
        for _, one, word_map in words_to_score(question, answers, scored, found):
            truth = one.mask & scored
            if word_map is None:
                if self.strict:
                    found["missing_counted"] += 1
                    found["words"].append({"text": one.text, "class": one.name, "iou": 0.0})
                    add_counts(counts, one.name, [0, int(truth.sum()), int(truth.sum())])
                continue
            if self.strict:
                mask = self.mask(word_map, truth.shape) & scored
            else:
                mask = published_mask(
                    word_map.values, truth.shape, TAU if self.threshold is None else self.threshold
                )
            predictions[one.text] = mask
            found["words"].append(self._word(one, word_map.values, mask, scored))
            inter, union = int((mask & truth).sum()), int((mask | truth).sum())
            add_counts(counts, one.name, [inter, union, int(truth.sum())])
        _add_pairs(found, question, predictions, scored)
        return {**found, "counts": counts}

    def _word(
        self, one: Any, values: np.ndarray, mask: np.ndarray, scored: np.ndarray
    ) -> dict[str, Any]:
        truth = one.mask & scored
        soft = stretched(resized(values, truth.shape))[scored]
        return {
            "text": one.text,
            "class": one.name,
            "iou": overlap.intersection_over_union(mask, truth),
            "ioa": overlap.intersection_over_area(mask, truth),
            "soft_iou": overlap.soft_intersection_over_union(soft, truth[scored]),
            "soft_ioa": overlap.soft_intersection_over_area(soft, truth[scored]),
            "ap": average_precision(soft, truth[scored]),
            "intensity": float(mask.sum() / max(scored.sum(), 1)),
        }


def published_mask(values: np.ndarray, size: tuple[int, int], tau: Any) -> np.ndarray:
    """DAAM's mask: at 512 x 512, and where the truth has another size, bicubic and at least 1."""
    square = stretched(_plain_bicubic(values, (SIDE, SIDE)))
    mask = square > threshold_value(tau, square)
    return mask if size == mask.shape else _plain_bicubic(mask, size) >= 1.0


def _plain_bicubic(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Without the filter of a map that shrinks, in float32, as DAAM calls it."""
    if values.shape == size:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    return F.interpolate(tensor, size, mode="bicubic", align_corners=False)[0, 0].numpy()


def _add_pairs(
    found: dict[str, Any],
    question: Question,
    predictions: dict[str, np.ndarray],
    scored: np.ndarray,
) -> None:
    """The IoU of every predicted mask with every true one: for the scores without labels."""
    pairs: dict[str, dict[str, float]] = {}
    best: dict[str, float] = {}
    for one in question.asked:
        truth = one.mask & scored
        if not truth.any():
            continue
        for text, mask in predictions.items():
            iou = overlap.intersection_over_union(mask, truth)
            pairs.setdefault(text, {})[one.name] = iou
            best[one.text] = max(best.get(one.text, 0.0), iou)
    found["pairs"] = pairs
    for word in found["words"]:
        word["best_iou"] = best.get(word["text"], 0.0)
