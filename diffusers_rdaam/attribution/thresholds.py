"""Where the mask of a heat map begins: a number for each kind of map, or Otsu's threshold.

Thresholds are of the map stretched to 0 to 1. The defaults are those that fit the objects of the
embedded models' images best, on prompts that none of the published numbers is measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.shapes import Column

Threshold = float | Literal["otsu"]
# Of a map of which nothing was measured: between DAAM's 0.4 and what fits the embedded models.
DEFAULT_THRESHOLD = 0.5
# By what the softmax ran over: the text alone (cross-attention), or text and image together.
RAW = {"cross": 0.60, "joint": 0.54}
REFINED = {
    "cross": {"product": 0.48, "guided": 0.64, "power": 0.66, "ovam": 0.60},
    # Of the other methods nothing was measured there: theirs are those of cross-attention.
    "joint": {"product": 0.40},
}
# Sharpened maps are steeper; a mask that begins this much higher fits best.
SHARPENED_MORE = 0.08
BINS = 256


def threshold_of(run: Mapping[str, Any]) -> float:
    """The default threshold of an attribution's maps, from the facts about its run."""
    refined = run.get("refined")
    return RAW[attention_of(run)] if refined is None else threshold_of_refined(str(refined), run)


def threshold_of_refined(method: str, run: Mapping[str, Any]) -> float:
    """The default threshold of maps of a run that were refined by a method."""
    known = REFINED["cross"] | REFINED[attention_of(run)]
    return known.get(method, DEFAULT_THRESHOLD)


def attention_of(run: Mapping[str, Any]) -> str:
    """``"joint"`` where the softmax ran over text and image together, ``"cross"`` if not."""
    return "joint" if run.get("attention") == "joint" else "cross"


def chosen_threshold(threshold: Threshold, stretched: Column) -> float:
    """The threshold as a number.

    Args:
        threshold: the number itself, or ``"otsu"``.
        stretched: the map, from 0 to 1.

    Raises:
        InputError: the threshold is not a number in [0, 1) and not ``"otsu"``.
    """
    if threshold == "otsu":
        return otsu(stretched)
    number = real_number(threshold)
    if number is None or not 0.0 <= number < 1.0:
        raise InputError(
            "A threshold lies in [0, 1), on the map stretched to 0 to 1, or is 'otsu'; got "
            f"{threshold!r}."
        )
    return number


def levelled(stretched: Column, threshold: float) -> Column:
    """The map bent so that its threshold is at one half: a probability of the word at each pixel.

    Args:
        stretched: values from 0 to 1.
        threshold: where the mask begins, in [0, 1).
    """
    middle = max(threshold, 1e-3)
    above = 0.5 + 0.5 * (stretched - middle) / (1.0 - middle)
    return torch.where(stretched < middle, 0.5 * stretched / middle, above)


def otsu(stretched: Column) -> float:
    """The threshold that parts the values into the two classes that differ most.

    It maximises the variance between the classes, ``w0 w1 (mean0 - mean1)^2`` with the classes'
    shares ``w``, over the edges of a histogram of 256 bins. N. Otsu: A Threshold Selection Method
    from Gray-Level Histograms, IEEE Transactions on Systems, Man and Cybernetics 9(1), 1979.

    Args:
        stretched: values from 0 to 1.
    """
    counts = torch.histc(stretched.float(), BINS, 0.0, 1.0).double()
    centres = (torch.arange(BINS, dtype=torch.float64, device="cpu") + 0.5) / BINS
    below = counts.cumsum(dim=0)[:-1]
    above = counts.sum() - below
    sums = (counts * centres).cumsum(dim=0)
    low = sums[:-1] / below.clamp(min=1.0)
    high = (sums[-1] - sums[:-1]) / above.clamp(min=1.0)
    between = below * above * (low - high) ** 2
    # Where no value lies between the classes, several edges are equally good: their middle.
    best = (between == between.max()).nonzero()[:, 0]
    return float((best.double() + 1.0).mean() / BINS)
