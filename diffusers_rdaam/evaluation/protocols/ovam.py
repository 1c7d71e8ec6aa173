"""OVAM (2024): one class an image, accumulated over the images of the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    Skipped,
    asked_targets,
    resized,
    threshold_value,
)
from diffusers_rdaam.evaluation.protocols.scores import (
    add_counts,
    counts_of_masks,
    empty_scores,
    words_to_score,
)
from diffusers_rdaam.evaluation.sample import DataSet, Sample

TAU = 0.4


@dataclass(frozen=True)
class Ovam(Protocol):
    """The class word's map over its maximum, over 0.4; IoU accumulated by class, mean of classes.

    Its self-attention is ``refine=ovam`` of the maps.
    """

    name: ClassVar[str] = "ovam"
    summary: ClassVar[str] = "IoU of the class word accumulated over its images, mean of classes"
    reference: ClassVar[str] = "Marcos-Manchon et al., OVAM (CVPR 2024); vpulab/ovam"
    flaws: ClassVar[tuple[str, ...]] = (
        "the thresholds were found on the images that are reported",
        "no interval is given",
        "a word that the prompt lacks is left out",
        "pixels without a label are scored",
    )
    metrics: ClassVar[tuple[str, ...]] = ("miou", "iou_overall", "miou_per_image", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = ("miou", "iou_overall", "coverage")

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """ "A photograph of a {class}", or the sample's own prompt."""
        asked = asked_targets(sample)
        if not asked:
            return Skipped("it has no target")
        words = list(dict.fromkeys(one.text for one in asked))
        return Question(sample.prompt or f"a photograph of a {' and a '.join(words)}", asked)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """The counts of each class."""
        scored = self.scored_pixels(sample)
        counts: dict[str, list[int]] = {}
        found = empty_scores()
        for _, one, word_map in words_to_score(question, answers, scored, found):
            if word_map is None:
                if not self.strict:
                    continue
                found["missing_counted"] += 1
                mask = np.zeros_like(one.mask)
            elif self.strict:
                mask = self.mask(word_map, (one.mask.shape[0], one.mask.shape[1]))
            else:
                mask = self._published(word_map.values, one.mask.shape)
            values = counts_of_masks(mask, one.mask, scored)
            add_counts(counts, one.name, values)
            iou = values[0] / max(values[1], 1)
            found["words"].append({"text": one.text, "class": one.name, "iou": iou})
        return {"counts": counts, **found}

    def _published(self, values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Bilinear, over the maximum: 0 stays 0, so that a flat map is all object."""
        values = resized(values, (size[0], size[1]), "bilinear")
        highest = float(values.max())
        values = values / highest if highest > 0.0 else values
        tau = TAU if self.threshold is None else self.threshold
        found: np.ndarray = values > threshold_value(tau, values)
        return found
