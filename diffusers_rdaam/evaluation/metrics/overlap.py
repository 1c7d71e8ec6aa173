"""How a predicted mask overlaps the true one: IoU and IoA, of hard and of soft masks."""

from __future__ import annotations

import numpy as np

from diffusers_rdaam.errors import InputError


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks of one size; 0 where both are empty."""
    _check_sizes(one, other)
    return float((one & other).sum() / max((one | other).sum(), 1))


def intersection_over_area(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The share of the predicted mask that is true: its precision; 0 where nothing is predicted."""
    _check_sizes(predicted, truth)
    return float((predicted & truth).sum() / max(predicted.sum(), 1))


def soft_intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """``sum(ab) / (sum(a) + sum(b) - sum(ab))`` of masks with values from 0 to 1, as DAAM has it.

    Two equal soft masks have less than 1, unless all their values are 0 or 1. 0 where both are 0.
    """
    _check_sizes(one, other)
    a, b = one.astype(np.float64), other.astype(np.float64)
    both = float((a * b).sum())
    union = float(a.sum() + b.sum()) - both
    return both / union if union > 0.0 else 0.0


def soft_intersection_over_area(predicted: np.ndarray, truth: np.ndarray) -> float:
    """``sum(ab) / sum(a)``: which share of a soft mask ``a`` lies in ``b``; 0 where ``a`` is 0."""
    _check_sizes(predicted, truth)
    a, b = predicted.astype(np.float64), truth.astype(np.float64)
    whole = float(a.sum())
    return float((a * b).sum()) / whole if whole > 0.0 else 0.0


def accuracy_over_two_minus_accuracy(accuracy: float) -> float:
    """``a / (2 - a)``: what one paper's script prints as mIoU.

    It hands a function for one mask the stack of foreground and background with the values 0 and 1,
    so that both "classes" count every pixel that is right, and every pixel twice:
    ``right / (2 all - right)``. It is never below the mean IoU of the two masks.
    """
    return accuracy / (2.0 - accuracy)


def _check_sizes(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        raise InputError(
            f"Two masks are compared at one size; got {one.shape} and {other.shape}. Resize the "
            "map to the size of the mask first."
        )
