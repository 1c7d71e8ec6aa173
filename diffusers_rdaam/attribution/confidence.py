"""Student's confidence intervals of a mean and of a difference, for a few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]

# The 97.5 % quantiles of Student's t with 1 to 4 degrees of freedom, where the series below is not
# yet exact to three digits.
_FEW = (12.7062, 4.3027, 3.1824, 2.7764)
_NORMAL = 1.959964


def quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, to 0.2 %.

    From five degrees of freedom by the expansion in their reciprocal (Abramowitz and Stegun
    26.7.5). Degrees between whole numbers, as Welch's formula gives them, are rounded down below
    five: the interval is then rather too wide.
    """
    if freedom < 5.0:
        return _FEW[max(int(freedom), 1) - 1]
    z = _NORMAL
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of values; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    mean, error = sum(values) / count, math.sqrt(_variance(values) / count)
    reach = quantile(count - 1) * error
    return mean - reach, mean + reach


def difference_interval(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """The 95 % interval of mean(second) - mean(first), of independent values (Welch).

    None where one has fewer than two.
    """
    if min(len(first), len(second)) < 2:
        return None
    parts = [_variance(values) / len(values) for values in (first, second)]
    total = sum(parts)
    middle = sum(second) / len(second) - sum(first) / len(first)
    if total == 0.0:
        return middle, middle
    below = sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    reach = quantile(total**2 / below) * math.sqrt(total)
    return middle - reach, middle + reach


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
