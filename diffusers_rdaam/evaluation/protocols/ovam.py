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
    counts_of_masks,
    resized,
    threshold_value,
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
        scored = sample.scored if self.strict else np.ones_like(sample.scored)
        counts: dict[str, list[int]] = {}
        words: list[dict[str, Any]] = []
        missing = empty = counted = 0
        for one in question.asked:
            if not (one.mask & scored).any():
                empty += 1
                continue
            word_map = answers.map(one.text, one.span)
            if word_map is None:
                missing += 1
                if not self.strict:
                    continue
                counted += 1
                mask = np.zeros_like(one.mask)
            elif self.strict:
                mask = self.mask(word_map, (one.mask.shape[0], one.mask.shape[1]))
            else:
                mask = self._published(word_map.values, one.mask.shape)
            found = counts_of_masks(mask, one.mask, scored)
            earlier = counts.get(one.name, [0, 0, 0])
            counts[one.name] = [a + b for a, b in zip(earlier, found, strict=True)]
            words.append({"text": one.text, "class": one.name, "iou": found[0] / max(found[1], 1)})
        return {
            "counts": counts,
            "words": words,
            "missing": missing,
            "missing_counted": counted,
            "empty": empty,
        }

    def _published(self, values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Bilinear, over the maximum: 0 stays 0, so that a flat map is all object."""
        values = resized(values, (size[0], size[1]), "bilinear")
        highest = float(values.max())
        values = values / highest if highest > 0.0 else values
        tau = TAU if self.threshold is None else self.threshold
        found: np.ndarray = values > threshold_value(tau, values)
        return found
