"""What ``python -m daam.run.evaluate`` does: score the predicted masks of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from diffusers_rdaam.argument_checks import check_choice
from diffusers_rdaam.compat.daam import masks
from diffusers_rdaam.compat.daam.evaluators import MeanEvaluator, UnsupervisedEvaluator
from diffusers_rdaam.compat.daam.labels import (
    COCO80_LABELS,
    COCO80_TO_27,
    COCOSTUFF27_LABELS,
    UNUSED_LABELS,
)
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.opening import inner_path

MaskType = Literal["word", "composite"]
EvalType = Literal["labeled", "unlabeled", "hungarian"]
RestrictSet = Literal["none", "coco27", "coco80"]


@dataclass(frozen=True)
class ExperimentScores:
    """What was scored.

    Args:
        evaluator: with the scores.
        images: folders with a truth mask.
        words: truth masks that count under the restriction.
        missing: of these, words without a prediction. DAAM leaves them out, so that misses cost
            nothing: publish how many there were.
    """

    evaluator: MeanEvaluator | UnsupervisedEvaluator
    images: int
    words: int
    missing: int

    @property
    def mean_iou(self) -> float:
        """Over the words that have a prediction, as DAAM has it."""
        return self.evaluator.mean_iou

    @property
    def strict_mean_iou(self) -> float:
        """With 0 for each word without a prediction.

        Raises:
            InputError: segments were matched, for which words are not what is counted.
        """
        if not isinstance(self.evaluator, MeanEvaluator):
            raise InputError("Matched segments have no words that could be missing.")
        return sum(self.evaluator.ious) / max(self.words, 1)

    def __str__(self) -> str:
        return (
            f"{self.evaluator} ({self.images} images, {self.words} words, {self.missing} without "
            "a prediction)"
        )


def evaluate_experiments(
    input_folder: str | Path,
    pred_prefix: str = "daam",
    mask_type: MaskType = "word",
    eval_type: EvalType = "labeled",
    restrict_set: RestrictSet = "none",
    subtype: str = ".",
) -> ExperimentScores:
    """Score the predicted masks in the folders of experiments, DAAM's and ours.

    Only masks are read: ``<word>.gt.png`` next to ``<subtype>/<word>.<prefix>.pred.png``.

    Args:
        input_folder: has a folder for each image.
        pred_prefix: of the predicted masks.
        mask_type: ``"word"``: a file for each; ``"composite"``: one image of numbers.
        eval_type: ``"labeled"``: a word with its own prediction; ``"unlabeled"``: with the best of
            all; ``"hungarian"``: segments matched with classes over the whole set.
        restrict_set: ``"coco80"``: words of COCO alone; ``"coco27"``: in its 27 groups.
        subtype: the folder within each.

    Raises:
        InputError: an option is not one of these, or the folder has no truth mask that counts.
        AttributionFileError: a file is not a mask.
    """
    check_choice(mask_type, MaskType, "a type of masks")
    check_choice(eval_type, EvalType, "an evaluation")
    check_choice(restrict_set, RestrictSet, "a restriction")
    labels = {"none": UNUSED_LABELS, "coco27": COCOSTUFF27_LABELS, "coco80": COCO80_LABELS}
    vocab, restricted = labels[restrict_set], restrict_set != "none"
    groups = COCO80_TO_27 if restrict_set == "coco27" else {}
    evaluator = UnsupervisedEvaluator() if eval_type == "hungarian" else MeanEvaluator()
    images = words = missing = 0
    numbers: dict[str, int] = {}
    for folder in _folders(Path(input_folder)):
        truth = masks.renamed(masks.read_masks(folder, ".gt.png"), groups)
        inner = inner_path(folder, subtype, "An experiment's subtype")
        found = masks.read_predictions(
            inner, pred_prefix, composite=mask_type == "composite", vocab=vocab
        )
        predicted = masks.renamed(found, groups)
        images += 1
        for word, mask in truth.items():
            if restricted and word not in vocab:
                continue
            words += 1
            missing += not _logged(evaluator, eval_type, predicted, word, mask, numbers)
        if isinstance(evaluator, UnsupervisedEvaluator):
            evaluator.increment()
    if not words:
        raise InputError(
            f"{input_folder} has no truth mask that counts: <id>/<word>.gt.png, RGBA"
            + (f", with a word of {restrict_set}." if restricted else ".")
        )
    return ExperimentScores(evaluator, images, words, missing)


def _folders(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. Give the folder of all experiments.")
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and any(folder.glob("*.gt.png")):
            masks.check_inside(root, folder)
            yield folder


def _logged(
    evaluator: MeanEvaluator | UnsupervisedEvaluator,
    eval_type: EvalType,
    predicted: Mapping[str, torch.Tensor],
    word: str,
    mask: torch.Tensor,
    numbers: dict[str, int],
) -> bool:
    """Log a word's truth with what it is compared with; False where that is missing."""
    if isinstance(evaluator, UnsupervisedEvaluator):
        for other, prediction in predicted.items():
            row, column = (numbers.setdefault(text, len(numbers)) for text in (word, other))
            evaluator.log_iou(prediction, mask, gt_idx=row, pred_idx=column)
        return bool(predicted)
    if eval_type == "unlabeled":
        found = list(predicted.values())
    else:
        found = [predicted[word]] if word in predicted else []
    if not found:
        return False
    evaluator.log_iou(found, mask)
    for prediction in found:
        evaluator.log_intensity(prediction)
    return True
