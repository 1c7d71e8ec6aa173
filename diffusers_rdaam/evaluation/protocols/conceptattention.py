"""ConceptAttention (ICML 2025): an object against the rest; VOC with one or several classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.evaluation.metrics.ranking import average_precision, stacked_average_precision
from diffusers_rdaam.evaluation.protocols.protocol import (
    Answers,
    Asked,
    Protocol,
    Question,
    Skipped,
    WordMap,
    article,
    asked_targets,
    nearest,
    resized,
    stretched,
    words_option,
)
from diffusers_rdaam.evaluation.protocols.scores import (
    counts_of_labels,
    counts_of_masks,
    empty_scores,
)
from diffusers_rdaam.evaluation.sample import DataSet, Sample

Variant = Literal["imagenet", "voc_single", "voc_multi"]
BACKGROUNDS = {
    "imagenet": ("background", "floor", "tree", "person", "grass", "face"),
    "voc_single": ("background", "floor", "grass", "tree", "sky"),
    "voc_multi": ("background", "floor", "grass", "tree", "sky"),
}
LABEL_SIDE, MULTI_SIDE, MAP_SIDE = 224, 64, 64
FOREGROUND, BACKGROUND = "foreground", "background"


@dataclass(frozen=True)
class ConceptAttention(Protocol):
    """The mask is the map over its own mean (ImageNet), or the argmax of classes and backgrounds.

    Args:
        variant: ``"imagenet"`` (each word against the rest), ``"voc_single"`` (images with one
            class, argmax against background words) or ``"voc_multi"`` (all classes of an image).
        concepts: background words in place of the variant's.
    """

    name: ClassVar[str] = "conceptattention"
    summary: ClassVar[str] = "object against background at the map's mean; VOC by argmax"
    reference: ClassVar[str] = "Helbling et al., ConceptAttention (ICML 2025)"
    flaws: ClassVar[tuple[str, ...]] = (
        "the column that is printed as mIoU on ImageNet is Acc/(2 - Acc), acc_over_2_minus_acc",
        "its mAP ranks two stacked channels: a flat map has 0.5 whatever the object's size",
        "labels are shrunk to 224 (or 64) pixels first, which decides which images have one class",
        "each pixel of VOC's border is a sure error of Acc",
        "VOC with several classes is given the classes that are there",
    )
    metrics: ClassVar[tuple[str, ...]] = ("miou", "acc", "ap", "miou_per_image", "coverage")
    published_metrics: ClassVar[tuple[str, ...]] = (
        *("acc", "acc_over_2_minus_acc", "ap_stacked", "miou", "coverage"),
    )
    noise: ClassVar[tuple[float, ...]] = (0.5,)
    draws: ClassVar[int] = 5

    variant: Variant = "imagenet"
    concepts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.variant, Variant, "a variant")
        object.__setattr__(self, "concepts", words_option("concepts", self.concepts))

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """The background words."""
        return BACKGROUNDS[self.variant] if self.concepts is None else self.concepts

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """ "a {word}", then each background word as ", a {concept}"."""
        asked = asked_targets(sample)
        if not asked:
            return Skipped("it has no target")
        if self.variant == "voc_single":
            there = self._names_after_resizing(sample)
            if len(there) != 1:
                return Skipped(f"it has {len(there)} classes, and the variant takes one")
            asked = tuple(one for one in asked if one.name in there)
        elif self.variant == "voc_multi" and self.strict:
            asked = _with_absent(asked, sample, data)
        text = article(list(dict.fromkeys(one.text for one in asked)))
        others = tuple(one for one in self.backgrounds if one not in {a.text for a in asked})
        return Question("".join([text, *(f", a {one}" for one in others)]), asked, others)

    def _names_after_resizing(self, sample: Sample) -> set[str]:
        """The classes that are left in the label: it loses small ones where it is shrunk."""
        size = None if self.strict else (LABEL_SIDE, LABEL_SIDE)
        masks = ((one.class_name or one.text, one.mask) for one in sample.targets)
        return {
            name for name, mask in masks if (mask if size is None else nearest(mask, size)).any()
        }

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """Counts of foreground and background, or of classes; right pixels; AP."""
        if self.variant == "imagenet":
            return self._against_the_rest(question, answers, sample)
        return self._by_argmax(question, answers, sample)

    def _size(self, sample: Sample, side: int) -> tuple[int, int]:
        return (side, side) if not self.strict else (sample.scored.shape[0], sample.scored.shape[1])

    def _against_the_rest(
        self, question: Question, answers: Answers, sample: Sample
    ) -> dict[str, Any]:
        size = self._size(sample, LABEL_SIDE)
        scored = nearest(sample.scored, size) if self.strict else np.ones(size, dtype=bool)
        found = empty_scores()
        both = np.zeros((2, 3), dtype=np.int64)
        right = 0
        for one in question.asked:
            truth = nearest(one.mask, size)
            if not (truth & scored).any():
                found["empty"] += 1
                continue
            word_map = answers.map(one.text, one.span)
            if word_map is None:
                found["missing"] += 1
                if not self.strict:
                    continue
                found["missing_counted"] += 1
            mask, soft = self._foreground(word_map, size)
            both += [
                counts_of_masks(guess, label, scored)
                for guess, label in ((mask, truth), (~mask, ~truth))
            ]
            right += int(((mask == truth) & scored).sum())
            found["words"].append(_word(one, mask, soft, truth, scored, known=word_map is not None))
        pixels = [right, int(scored.sum()) * len(found["words"])]
        counts = {FOREGROUND: both[0].tolist(), BACKGROUND: both[1].tolist()}
        return {**found, "counts": counts if found["words"] else {}, "pixels": pixels}

    def _foreground(
        self, word_map: WordMap | None, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mask, and the map from 0 to 1."""
        if word_map is None:
            return np.zeros(size, dtype=bool), np.zeros(size)
        if self.strict:
            return self.mask(word_map, size, "mean"), stretched(resized(word_map.values, size))
        # At the size of the model's tokens, over its own mean; then nearest.
        cells = resized(word_map.values, (MAP_SIDE, MAP_SIDE), "bilinear")
        return nearest(cells > cells.mean(), size), nearest(stretched(cells), size)

    def _by_argmax(self, question: Question, answers: Answers, sample: Sample) -> dict[str, Any]:
        size = self._size(sample, LABEL_SIDE if self.variant == "voc_single" else MULTI_SIDE)
        names = [BACKGROUND, *dict.fromkeys(one.name for one in question.asked)]
        truth = np.zeros(size, dtype=np.int64)
        for one in question.asked:
            truth[nearest(one.mask, size)] = names.index(one.name)
        scored = nearest(sample.scored, size)
        maps, labels = [np.full(size, 0.0)], [0]
        missing = 0
        for text, span, label in _competing(question, names):
            word_map = answers.map(text, span)
            if word_map is None:
                missing += label > 0
                continue
            maps.append(_linear(resized(word_map.values, size, "bilinear")))
            labels.append(label)
        guess = np.array(labels)[np.argmax(maps, axis=0)]
        right = int(((guess == truth) & scored).sum())
        # As published, a pixel of the border is scored, and never right.
        pixels = int(scored.sum()) if self.strict else int(scored.size)
        found: dict[str, Any] = {
            "counts": counts_of_labels(guess, truth, names, scored),
            "pixels": [right, pixels],
            "words": [],
            "missing": missing,
        }
        for one in question.asked:
            mask, there = guess == names.index(one.name), nearest(one.mask, size)
            if not (there & scored).any():
                continue
            word_map = answers.map(one.text, one.span)
            soft = (
                np.zeros(size) if word_map is None else resized(word_map.values, size, "bilinear")
            )
            found["words"].append(_word(one, mask, soft, there, scored, known=True))
        found["missing_counted"] = missing
        return found


def _word(
    one: Asked,
    mask: np.ndarray,
    soft: np.ndarray,
    truth: np.ndarray,
    scored: np.ndarray,
    *,
    known: bool,
) -> dict[str, Any]:
    inter, union, _ = counts_of_masks(mask, truth, scored)
    entry: dict[str, Any] = {"text": one.text, "class": one.name, "iou": inter / max(union, 1)}
    if known:
        low = stretched(soft)
        entry["ap"] = average_precision(low[scored], truth[scored])
        entry["ap_stacked"] = stacked_average_precision(low[scored], truth[scored])
    return entry


def _competing(
    question: Question, names: list[str]
) -> list[tuple[str, tuple[int, int] | None, int]]:
    """Every text whose map takes part in the argmax, with the number of its label."""
    words = [(one.text, one.span, names.index(one.name)) for one in question.asked]
    return [*((text, None, 0) for text in question.background), *words]


def _linear(values: np.ndarray) -> np.ndarray:
    """``(x - min) / sum``: a vector of pixels that sums to 1."""
    low = values - values.min()
    whole = float(low.sum())
    return low / whole if whole > 0.0 else low


def _with_absent(asked: tuple[Asked, ...], sample: Sample, data: DataSet) -> tuple[Asked, ...]:
    """All classes of the data set: nobody says which ones the image has."""
    there = {one.name for one in asked}
    empty = np.zeros_like(sample.scored)
    absent = (Asked(one.word, one.name, empty) for one in data.classes if one.name not in there)
    return (*asked, *absent)
