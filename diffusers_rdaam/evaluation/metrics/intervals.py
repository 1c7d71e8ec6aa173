"""Intervals by resampling images: of any statistic, and of weighted statistics at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffusers_rdaam.errors import InputError

RESAMPLES = 1000
QUANTILES = (2.5, 97.5)
# From weights (draws, rows), how often each row is drawn, to (draws,) values.
Weighted = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Args:
        value: of all images.
        low, high: the 2.5 and 97.5 % quantiles over resampled images; NaN where it has no interval.
        images: how many it is of.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    images: int = 0

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        if np.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def resampled(
    scenes: Sequence[object],
    statistic: Callable[[np.ndarray], float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A statistic of scenes with its 95 % interval, by resampling scenes with replacement.

    Args:
        scenes: one entry each, whatever the statistic takes.
        statistic: of an array of the numbers of scenes.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        The value of all scenes, and the 2.5 and 97.5 % quantiles of the draws.
    """
    count = len(scenes)
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    values = [statistic(draw) for draw in draws]
    low, high = np.percentile(values, QUANTILES)
    return statistic(np.arange(count)), float(low), float(high)


def bootstrap_weights(
    clusters: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """How often each row is drawn when images are drawn with replacement: ``(draws, rows)``.

    Several rows of one image (other prompts, other seeds) are drawn together: they are not
    independent.

    Args:
        clusters: the image of each row.
        resamples: how many draws.
        seed: of the draws: the same weights twice.

    Raises:
        InputError: there is no row.
    """
    if not clusters:
        raise InputError("There is nothing to resample: no image was scored.")
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    places = np.array([names[name] for name in clusters])
    draws = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    counts = np.zeros((resamples, len(names)))
    np.add.at(counts, (np.arange(resamples)[:, None], draws), 1.0)
    return counts[:, places]


def estimate(statistic: Weighted, weights: np.ndarray, images: int) -> Estimate:
    """A weighted statistic of all rows, with its interval over draws.

    Args:
        statistic: from weights ``(draws, rows)`` to values ``(draws,)``.
        weights: of :func:`bootstrap_weights`.
        images: how many there are.
    """
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    return Estimate(value, *_quantiles(statistic(weights)), images)


def paired_difference(one: Weighted, other: Weighted, weights: np.ndarray, images: int) -> Estimate:
    """``one - other`` on the same images, drawn together, so that what they share cancels.

    Args:
        one, other: weighted statistics of the same rows.
        weights: of :func:`bootstrap_weights`.
        images: how many there are.
    """
    whole = np.ones((1, weights.shape[1]))
    value = float(one(whole)[0] - other(whole)[0])
    return Estimate(value, *_quantiles(one(weights) - other(weights)), images)


def normal_interval(values: Sequence[float], *, ddof: int = 1) -> tuple[float, float]:
    """The mean and ``1.96 s / sqrt(n)``.

    Args:
        values: independent numbers.
        ddof: 1 for the sample's deviation; 0 as DAAM has it, which is a little too narrow.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) <= ddof:
        return float(array.mean()) if len(array) else float("nan"), float("nan")
    return float(array.mean()), float(1.96 * array.std(ddof=ddof) / len(array) ** 0.5)


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, QUANTILES)
    return float(low), float(high)
