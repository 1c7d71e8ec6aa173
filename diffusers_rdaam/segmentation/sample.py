"""What is known of each image of a data set, and which of them are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import check_count, real_number
from diffusers_rdaam.errors import InputError

# OVAM's filters: areas within these percentiles of their class, and the score of CLIP over this.
AREA_PERCENTILES = (5.0, 95.0)
CLIP_PERCENTILE = 25.0
# Percentiles of fewer images than this say nothing: the 5th would be one of them.
LEAST_IMAGES = 20


@dataclass(frozen=True)
class SampleFacts:
    """An image of a data set without its pixels.

    Args:
        id: of its files.
        prompt, seed: that it was made from.
        areas: the share of the image of each class that its prompt names.
        is_safe: False where the safety checker took the image, or it is of one colour.
        clip: by class the probability of "a CLASS" against "not a CLASS", where it was ranked.
    """

    id: str
    prompt: str
    seed: int
    areas: Mapping[str, float]
    is_safe: bool = True
    clip: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The images that are kept, in order, and why the others are not, by id."""

    kept: tuple[SampleFacts, ...]
    dropped: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Choice({len(self.kept)} images kept, {len(self.dropped)} dropped)"


def is_safe_image(image: Image.Image, flagged: Any = None) -> bool:
    """Whether an image is one to keep: not flagged by a safety checker, and not of one colour.

    Args:
        image: a checker leaves it black.
        flagged: ``nsfw_content_detected`` of the image, where the pipeline has a checker.
    """
    pixels = np.asarray(image)
    return not bool(flagged) and bool((pixels != pixels.reshape(-1, *pixels.shape[2:])[0]).any())


def choose(
    samples: Sequence[SampleFacts],
    *,
    areas: tuple[float, float] | None = AREA_PERCENTILES,
    clip: float | None = CLIP_PERCENTILE,
    per_class: int | str | None = None,
) -> Choice:
    """The images to keep of a data set, by OVAM's filters and a balance of classes.

    An image without a pixel of one of its classes, and one that is not safe, are never kept.
    Percentiles are of the images that pass the filters before, class by class, and of classes with
    at least 20 images.

    Args:
        samples: all images, with ids of their own.
        areas: the lowest and highest percentile of a class's area; None keeps all areas.
        clip: the percentile of a class's CLIP score below which an image is dropped; None, and
            images that were not ranked, drop nothing.
        per_class: at most so many images that show each class, the first ones; ``"least"``: as
            many as the rarest class has.

    Raises:
        InputError: a percentile does not lie in [0, 100], a count is not over 0, or an id is there
            twice.
    """
    ids = [sample.id for sample in samples]
    if len(set(ids)) != len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise InputError(f"The id {twice[:80]!r} occurs twice. Give every image one of its own.")
    dropped: dict[str, str] = {}
    left = _sift(samples, dropped, lambda sample: None if sample.is_safe else "not safe")
    left = _sift(left, dropped, _empty)
    if areas is not None:
        low, high = (_percentile(value, "areas=") for value in areas)
        if low > high:
            raise InputError(f"areas= are the lowest and the highest percentile; got {areas!r}.")
        left = _sift(left, dropped, _outside(left, "areas", low, high, "area"))
    if clip is not None:
        low = _percentile(clip, "clip=")
        left = _sift(left, dropped, _outside(left, "clip", low, 100.0, "CLIP score"))
    if per_class is not None:
        left = _balanced(left, dropped, per_class)
    return Choice(tuple(left), dropped)


Reason = Callable[[SampleFacts], str | None]


def _sift(
    samples: Sequence[SampleFacts], dropped: dict[str, str], reason: Reason
) -> list[SampleFacts]:
    kept = []
    for sample in samples:
        why = reason(sample)
        if why is None:
            kept.append(sample)
        else:
            dropped[sample.id] = why
    return kept


def _empty(sample: SampleFacts) -> str | None:
    empty = [name for name, share in sample.areas.items() if share <= 0.0]
    if not sample.areas:
        return "no class"
    return f"no pixel of {', '.join(empty)}" if empty else None


def _percentile(value: Any, name: str) -> float:
    number = real_number(value)
    if number is None or not 0.0 <= number <= 100.0:
        raise InputError(f"{name} takes percentiles, from 0 to 100; got {value!r}.")
    return number


def _outside(
    samples: Sequence[SampleFacts], what: str, low: float, high: float, noun: str
) -> Reason:
    """Why a sample's numbers of a kind lie outside of the percentiles of their classes."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in getattr(sample, what).items():
            values.setdefault(name, []).append(value)
    limits = {
        name: tuple(float(limit) for limit in np.percentile(all_, [low, high]))
        for name, all_ in values.items()
        if len(all_) >= LEAST_IMAGES
    }

    def reason(sample: SampleFacts) -> str | None:
        for name, value in getattr(sample, what).items():
            least, most = limits.get(name, (value, value))
            if not least <= value <= most:
                side = "below" if value < least else "over"
                return (
                    f"{noun} of {name} {value:.4f} is {side} "
                    f"{least if value < least else most:.4f}, percentile "
                    f"{low if value < least else high:g} of its class"
                )
        return None

    return reason


def _balanced(
    samples: list[SampleFacts], dropped: dict[str, str], per_class: int | str
) -> list[SampleFacts]:
    """At most so many images of each class; the first ones stay.

    An image of several classes stays while one of them still needs images and none is full.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        for name in sample.areas:
            counts[name] = counts.get(name, 0) + 1
    if per_class == "least":
        most = min(counts.values(), default=0)
    else:
        most = check_count(per_class, "per_class=")
    taken = dict.fromkeys(counts, 0)

    def reason(sample: SampleFacts) -> str | None:
        full = [name for name in sample.areas if taken[name] >= most]
        if full:
            return f"{most} images of {', '.join(full)} are kept already"
        for name in sample.areas:
            taken[name] += 1
        return None

    return _sift(samples, dropped, reason)
