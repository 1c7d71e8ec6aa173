"""The pointing game, and energy inside: a map's place without a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.metrics.ranking import (
    average_precision,
    energy_inside,
    points_inside,
)
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    class_words,
    resized,
)
from diffusers_rdaam.evaluation.protocols.scores import empty_scores, words_to_score
from diffusers_rdaam.evaluation.sample import DataSet, Sample

PUBLISHED_TOLERANCE = 15.0


@dataclass(frozen=True)
class Pointing(Protocol):
    """Whether the highest pixel of a word's map lies in its mask.

    Args:
        tolerance: in pixels of the image; 0 in the honest form and 15 as published if not given.
    """

    name: ClassVar[str] = "pointing"
    summary: ClassVar[str] = "pointing game by class, energy inside, AP"
    reference: ClassVar[str] = "Zhang et al., Excitation Backprop (2016); TorchRay"
    flaws: ClassVar[tuple[str, ...]] = (
        "15 pixels of tolerance are an eighth of a small image",
        "a class without a sample counts 0 in the mean",
        "the highest pixel may lie in the border",
    )
    metrics: ClassVar[tuple[str, ...]] = ("pointing", "inside", "area", "ap", "map", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = ("pointing_all_classes", "coverage")
    tunable: ClassVar[bool] = False

    tolerance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tolerance is None:
            return
        number = real_number(self.tolerance)
        if number is None or number < 0.0:
            raise InputError(f"tolerance= is a number of pixels from 0; got {self.tolerance!r}.")
        object.__setattr__(self, "tolerance", number)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """Hit, energy inside, the area and AP of each word."""
        scored = self.scored_pixels(sample)
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 0.0 if self.strict else PUBLISHED_TOLERANCE
        found = empty_scores()
        for _, one, word_map in words_to_score(question, answers, scored, found):
            truth = one.mask & scored
            entry: dict[str, Any] = {"text": one.text, "class": one.name}
            if word_map is None:
                found["missing_counted"] += 1
                found["words"].append({**entry, "hit": 0.0})
                continue
            values = resized(word_map.values, (truth.shape[0], truth.shape[1]))
            hit = points_inside(values, truth, tolerance=tolerance, scored=scored)
            positive = np.where(scored, values.clip(min=0.0), 0.0)
            found["words"].append(
                {
                    **entry,
                    "hit": float(hit),
                    "inside": energy_inside(positive, truth),
                    "area": float(truth.sum() / scored.sum()),
                    "ap": average_precision(values[scored], truth[scored]),
                }
            )
        return {**found, "class_count": len(class_words(data, sample)) if data.classes else 0}
