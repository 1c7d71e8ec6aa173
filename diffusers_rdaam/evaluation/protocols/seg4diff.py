"""Seg4Diff (NeurIPS 2025): semantic segmentation by the argmax of class words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from diffusers_rdaam.evaluation.protocols.competing_classes import (
    asked_class,
    class_maps,
    classes_there,
    scores_of_labels,
    true_labels,
)
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Protocol,
    Question,
    Skipped,
    boolean_option,
    class_words,
    resized,
    threshold_value,
)
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, word_in

# Of the highest value of all maps of an image.
THRESHOLD = 0.4


@dataclass(frozen=True)
class Seg4Diff(Protocol):
    """Each pixel is the class whose word has most attention there.

    As published the prompt names the classes that are there, only those compete, and pixels of no
    class are not scored. The honest form asks the image's own prompt (or one of all classes), has
    every class compete, and a background where no map is high.

    Args:
        oracle: whether the true classes are given; by the form if not given.
    """

    name: ClassVar[str] = "seg4diff"
    summary: ClassVar[str] = "mIoU of an argmax over class words"
    reference: ClassVar[str] = "Kim et al., Seg4Diff (NeurIPS 2025); detectron2's evaluator"
    flaws: ClassVar[tuple[str, ...]] = (
        "the classes that are truly there are given twice: in the prompt and in the argmax",
        "background and border are not scored",
        "a false positive of an absent class costs only the true class",
        "its noise is drawn without a seed (ours has one in either form)",
    )
    metrics: ClassVar[tuple[str, ...]] = ("miou", "acc", "unsupervised_miou", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = ("miou", "acc", "coverage")
    noise: ClassVar[tuple[float, ...]] = (0.515,)
    draws: ClassVar[int] = 1

    oracle: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.oracle is not None:
            boolean_option("oracle", self.oracle)

    @property
    def _oracle(self) -> bool:
        return not self.strict if self.oracle is None else self.oracle

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """The names of the true classes joined by blanks; or the image's own prompt."""
        classes = class_words(data, sample)
        there = classes_there(sample)
        if self._oracle:
            chosen = [one for one in classes if one.name in there]
            if not chosen:
                return Skipped("no pixel has a class")
            asked = [asked_class(one, self._word(one), sample) for one in chosen]
            return Question(" ".join(one.text for one in asked), tuple(asked))
        prompt = sample.prompt or ", ".join(f"a {one.word}" for one in classes)
        asked = [
            asked_class(one, word_in(prompt, one.words) or one.word, sample) for one in classes
        ]
        return Question(prompt, tuple(asked))

    def _word(self, one: ClassName) -> str:
        """The data set's own name up to a hyphen, as published; else the usual word."""
        return one.word if self.strict else one.name.split("-")[0].strip()

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """Counts of each class, and of background in the honest form."""
        size = (sample.scored.shape[0], sample.scored.shape[1])
        truth = true_labels(question, size)
        mode = "bicubic" if self.strict else "bilinear"
        maps, missing = class_maps(
            question, answers, size, lambda values: resized(values, size, mode)
        )
        scored = sample.scored
        if self._oracle:
            scored = scored & (truth > 0)
            guess = 1 + np.argmax(maps[1:], axis=0)
        else:
            share = THRESHOLD if self.threshold is None else self._number(maps)
            maps[0] = share * maps.max()
            guess = np.argmax(maps, axis=0)
        return scores_of_labels(question, guess, truth, scored, missing)

    def _number(self, maps: np.ndarray) -> float:
        assert self.threshold is not None
        highest = float(maps.max())
        values = maps.max(axis=0) / highest if highest > 0.0 else maps.max(axis=0)
        return threshold_value(self.threshold, values)
