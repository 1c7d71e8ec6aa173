"""DAAM's evaluators: mean IoU of words with an interval, and IoU of matched segments."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch

from diffusers_rdaam.compat.daam.evaluate import compute_iou
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.metrics.intervals import normal_interval
from diffusers_rdaam.evaluation.metrics.label_maps import matched_iou

Masks = torch.Tensor | list[torch.Tensor]
_EMPTY = "Nothing was logged, so that there is no mean. Call log_iou(prediction, truth) first."


def _best(preds: Masks, truth: torch.Tensor) -> float:
    """The highest IoU of one or several predictions with the truth."""
    listed = preds if isinstance(preds, list) else [preds]
    if not listed:
        raise InputError("There is no prediction. Give a mask, or a list of masks.")
    return max(compute_iou(pred, truth) for pred in listed)


class MeanEvaluator:
    """The mean IoU over words, with the interval of DAAM's paper, and mean intensities.

    The interval is ``1.96 std / sqrt(n)`` over words with the standard deviation of the population;
    words of one image are not independent, so that it is too narrow.
    """

    def __init__(self, name: str = "MeanEvaluator") -> None:
        self.ious: list[float] = []
        self.intensities: list[float] = []
        self.name = name

    def log_iou(self, preds: Masks, truth: torch.Tensor) -> MeanEvaluator:
        """Count the best of the predictions; returns the evaluator itself.

        Raises:
            InputError: there is no prediction.
        """
        self.ious.append(_best(preds, truth))
        return self

    def log_intensity(self, pred: torch.Tensor) -> MeanEvaluator:
        """Count the mean of a map or mask; returns the evaluator itself."""
        self.intensities.append(float(pred.float().mean()))
        return self

    @property
    def mean_iou(self) -> float:
        """Over all that was logged.

        Raises:
            InputError: nothing was.
        """
        if not self.ious:
            raise InputError(_EMPTY)
        return float(np.mean(self.ious))

    @property
    def mean_intensity(self) -> float:
        """Over all that was logged; NaN where no intensity was."""
        return float(np.mean(self.intensities)) if self.intensities else float("nan")

    @property
    def ci95_miou(self) -> float:
        """Half of the 95 % interval of :attr:`mean_iou`.

        Raises:
            InputError: nothing was logged.
        """
        if not self.ious:
            raise InputError(_EMPTY)
        return normal_interval(self.ious, ddof=0)[1]

    def __len__(self) -> int:
        return max(len(self.ious), len(self.intensities))

    def __str__(self) -> str:
        if not self.ious:
            return f"{self.name}<0 samples>"
        return (
            f"{self.name}<{self.mean_iou:.4f} (±{self.ci95_miou:.3f} mIoU) "
            f"{self.mean_intensity:.4f} (mInt) {len(self)} samples>"
        )


class UnsupervisedEvaluator:
    """The mean IoU of predicted segments without names, each matched with one class.

    The matching has the highest sum of IoUs over the data set; the mean is that sum over the number
    of times that the matched pairs met.
    """

    def __init__(self, name: str = "UnsupervisedEvaluator") -> None:
        self.name = name
        self.ious: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self.num_samples = 0

    def log_iou(
        self, preds: Masks, truth: torch.Tensor, gt_idx: int = 0, pred_idx: int = 0
    ) -> None:
        """Count the best of the predictions as segment ``pred_idx`` meeting class ``gt_idx``.

        Raises:
            InputError: there is no prediction, or a number is below 0.
        """
        if min(gt_idx, pred_idx) < 0:
            raise InputError(f"Classes and segments count from 0; got {gt_idx} and {pred_idx}.")
        self.ious[gt_idx].append((pred_idx, _best(preds, truth)))

    @property
    def mean_iou(self) -> float:
        """Of the matched pairs.

        Raises:
            InputError: nothing was logged.
        """
        if not self.ious:
            raise InputError(_EMPTY)
        pairs = [(row, column, iou) for row, found in self.ious.items() for column, iou in found]
        size = max(max(row, column) for row, column, _ in pairs) + 1
        sums, counts = np.zeros((size, size)), np.zeros((size, size))
        for row, column, iou in pairs:
            sums[row, column] += iou
            counts[row, column] += 1
        found = matched_iou(sums, counts)
        return 0.0 if np.isnan(found) else found

    def increment(self) -> None:
        """Count an image."""
        self.num_samples += 1

    def __len__(self) -> int:
        return self.num_samples

    def __str__(self) -> str:
        if not self.ious:
            return f"{self.name}<0 samples>"
        return f"{self.name}<{self.mean_iou:.4f} (mIoU) {len(self)} samples>"
