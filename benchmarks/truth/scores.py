"""What a map or a list of words is worth against a mask that is known; plain numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from diffusers_rdaam.evaluation.metrics.overlap import intersection_over_union

THRESHOLDS = np.round(np.arange(0.20, 0.83, 0.02), 2)
RESAMPLES = 2000

# (left, top, right, bottom), half-open, in pixels.
BoxEdges = tuple[float, float, float, float]


def iou_curve(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """IoU of a map stretched to 0 to 1 with a mask, at each of :data:`THRESHOLDS`."""
    low, high = float(values.min()), float(values.max())
    stretched = (values - low) / max(high - low, 1e-30)
    return np.array([intersection_over_union(stretched > level, mask) for level in THRESHOLDS])


def points_inside(values: np.ndarray, mask: np.ndarray) -> bool:
    """The pointing game: whether the map's highest pixel lies in the mask, the first of several.

    The package's measure takes the middle of pixels that are equally high.
    """
    return bool(mask.ravel()[int(values.argmax())])


def box_iou(one: BoxEdges, other: BoxEdges) -> float:
    """IoU of two boxes."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(across, 0.0) * max(down, 0.0)
    areas = [(edges[2] - edges[0]) * (edges[3] - edges[1]) for edges in (one, other)]
    return both / (sum(areas) - both)


def resampled(
    scenes: Sequence[object], statistic: Callable[[np.ndarray], float]
) -> tuple[float, float, float]:
    """A statistic of scenes with its 95 % interval, by resampling scenes with replacement.

    Args:
        scenes: one entry each, whatever the statistic takes.
        statistic: of an array of the numbers of scenes.

    Returns:
        The value of all scenes, and the 2.5 and 97.5 % quantiles of :data:`RESAMPLES` draws.
    """
    count = len(scenes)
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    values = [statistic(draw) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return statistic(np.arange(count)), float(low), float(high)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of a number of each scene, with :func:`resampled`'s interval."""
    array = np.asarray(values, dtype=np.float64)
    return resampled(array, lambda chosen: float(array[chosen].mean()))
