"""GoCA (CVPR 2026): segmentation with a background channel that is swept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffusers_rdaam.evaluation.protocols.competing_classes import (
    asked_class,
    class_maps,
    classes_there,
    label_names,
    scores_of_labels,
    true_labels,
)
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    Skipped,
    class_words,
    resized,
    stretched,
    threshold_value,
    words_option,
)
from diffusers_rdaam.evaluation.protocols.scores import counts_of_labels
from diffusers_rdaam.evaluation.sample import DataSet, Sample, word_in

LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
OFFSETS = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)
DEFAULT_LEVEL, DEFAULT_OFFSET = 0.5, 0.0


@dataclass(frozen=True)
class Goca(Protocol):
    """Maps stretched to 0 to 1 compete with a background of one value, or of background words.

    Args:
        backgrounds: words whose highest map, plus an offset, is the background; a constant if
            empty.
    """

    name: ClassVar[str] = "goca"
    summary: ClassVar[str] = "mIoU with background, of an argmax with a background channel"
    reference: ClassVar[str] = "Making Training-Free Diffusion Segmentors Scale (CVPR 2026)"
    flaws: ClassVar[tuple[str, ...]] = (
        "the background's offset is chosen on the images that are reported (best_on_test)",
        "true classes that the prompt lacks are added to it",
        "the border (255) is scored as background",
        "a class that never occurs counts 0 in the mean",
        "VOC is read from the training split (give split=: ours reads val)",
    )
    metrics: ClassVar[tuple[str, ...]] = ("miou", "acc", "unsupervised_miou", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = ("best_on_test", "miou_all_classes", "coverage")
    noise: ClassVar[tuple[float, ...]] = (0.26,)
    draws: ClassVar[int] = 1

    backgrounds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "backgrounds", words_option("backgrounds", self.backgrounds) or ())

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """The image's own prompt; as published with the true classes that it lacks."""
        classes = class_words(data, sample)
        there = classes_there(sample)
        prompt = sample.prompt or ""
        if not prompt:
            named = [one for one in classes if self.strict or one.name in there]
            prompt = ", ".join(f"a {one.word}" for one in named)
        elif not self.strict:
            lacking = [
                one.word
                for one in classes
                if one.name in there and word_in(prompt, one.words) is None
            ]
            prompt = ", ".join([prompt, *(f"a {word}" for word in lacking)])
        if not prompt:
            return Skipped("it has neither a prompt nor a class")
        backgrounds = [word for word in self.backgrounds if word_in(prompt, [word]) is None]
        prompt = ", ".join([prompt, *(f"a {word}" for word in backgrounds)])
        asked = [
            asked_class(one, word_in(prompt, one.words) or one.word, sample) for one in classes
        ]
        return Question(prompt, tuple(asked), self.backgrounds)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """Counts at the fixed offset, and as published at each of them."""
        size = (sample.scored.shape[0], sample.scored.shape[1])
        truth = true_labels(question, size)
        mode = "bicubic" if self.strict else "bilinear"
        maps, missing = class_maps(
            question, answers, size, lambda values: stretched(resized(values, size, mode))
        )
        ground = self._ground(answers, size)
        scored = self.scored_pixels(sample)
        level = DEFAULT_OFFSET if self.backgrounds else DEFAULT_LEVEL
        if self.threshold is not None:
            level = threshold_value(self.threshold, maps.max(axis=0))
        guess = _labels(maps, ground + level)
        found = scores_of_labels(question, guess, truth, scored, missing)
        found["class_count"] = len(class_words(data, sample)) + 1
        if not self.strict:
            found["sweep"] = {
                f"{offset:g}": counts_of_labels(
                    _labels(maps, ground + offset), truth, label_names(question), scored
                )
                for offset in (OFFSETS if self.backgrounds else LEVELS)
            }
        return found

    def _ground(self, answers: Answers, size: tuple[int, int]) -> np.ndarray:
        """The background before its offset: the highest map of background words, or 0."""
        ground = np.zeros(size)
        for word in self.backgrounds:
            word_map = answers.map(word)
            if word_map is not None:
                ground = np.maximum(ground, stretched(resized(word_map.values, size, "bilinear")))
        return ground


def _labels(maps: np.ndarray, ground: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.argmax(np.concatenate([ground[None], maps[1:]]), axis=0)
    return found
