"""Protocol: what is asked of a model about one image, and how the answer is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.attribution.thresholds import otsu
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample

# Above the map's own mean, as one paper decides; or Otsu's rule.
NAMED_THRESHOLDS = ("mean", "otsu")
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Asked:
    """One word or phrase that a map is asked for.

    Args:
        text: as the prompt has it.
        name: under which its pixels are counted: its class, or the text itself.
        mask: its true pixels, ``(height, width)``, in the size of the sample's masks.
        span: where it stands in the prompt, where that is known.
        box: around it, where the data set has one.
    """

    text: str
    name: str
    mask: np.ndarray = field(repr=False)
    span: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """What a model is asked about one image.

    Args:
        prompt: the text that the image is attributed with.
        asked: the words whose maps are scored.
        background: words that only compete with them.
    """

    prompt: str
    asked: tuple[Asked, ...]
    background: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Why a protocol has nothing to ask about an image: a row of the report, and no score."""

    reason: str


@dataclass(frozen=True, eq=False)
class WordMap:
    """A word's map as it was recorded.

    Args:
        values: ``(height, width)`` in the size that the model saw.
        threshold: where masks of this kind of map begin, on the map stretched to 0 to 1: chosen on
            prompts that are in no data set.
    """

    values: np.ndarray
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not np.isfinite(self.values).all():
            raise InputError(
                f"A word's map is (height, width) and finite; this is {self.values.shape}"
                + (" with NaN or infinity." if self.values.ndim == 2 else ".")
            )


class Answers:
    """What a model says about one image. This class answers from maps that are given.

    Args:
        maps: by text. A text that is not there is a word that the prompt lacks.
    """

    def __init__(self, maps: Mapping[str, WordMap | np.ndarray]) -> None:
        self._maps = {
            text: one if isinstance(one, WordMap) else WordMap(one) for text, one in maps.items()
        }

    def map(self, text: str, span: tuple[int, int] | None = None) -> WordMap | None:
        """The map of a word or phrase of the prompt; None where the prompt does not have it."""
        return self._maps.get(text)

    def box_scores(
        self, box: Sequence[float], size: Size
    ) -> list[tuple[str, tuple[int, int] | None, float, float]]:
        """Every token of the prompt with its span, its score in a box, and its lift there.

        Args:
            box: left, top, right, bottom.
            size: height and width of the image that the box is of.
        """
        found: list[tuple[str, tuple[int, int] | None, float, float]] = []
        for text, one in self._maps.items():
            cells = box_weights(box, size, one.values.shape)
            score = float((one.values * cells).sum() / cells.sum())
            level = float(one.values.mean())
            found.append((text, None, score, score / level if level > 0.0 else 0.0))
        return found

    def losses(self, images: Sequence[np.ndarray], text: str) -> list[float]:
        """How much worse the model predicts the noise of images without a word of the prompt.

        Args:
            images: ``(height, width, 3)`` from 0 to 1, of one size.
            text: the word or phrase that is left out.

        Raises:
            InputError: there is no model to ask.
        """
        raise InputError(
            "The protocol 'deletion' asks the model about edited images; maps alone do not answer."
        )


@dataclass(frozen=True)
class Protocol:
    """A protocol with its settings.

    Args:
        strict: True for the honest form; False for the published one, with the flaws that it has.
        threshold: of masks, on the map stretched to 0 to 1; ``"mean"`` or ``"otsu"``; the
            protocol's or the map's own if not given.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str]
    # What is wrong with the published form, each in a sentence.
    flaws: ClassVar[tuple[str, ...]]
    # What is reported, the headline first: of the honest and of the published form.
    metrics: ClassVar[tuple[str, ...]]
    published_metrics: ClassVar[tuple[str, ...]]
    # Of attribute_image.
    noise: ClassVar[tuple[float, ...]] = (0.26, 0.37, 0.46)
    draws: ClassVar[int] = 2
    tunable: ClassVar[bool] = True

    strict: bool = True
    threshold: float | str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.strict, bool):
            raise InputError(f"strict= is True or False; got {self.strict!r}.")
        number = real_number(self.threshold)
        if (
            self.threshold is not None
            and self.threshold not in NAMED_THRESHOLDS
            and (number is None or not 0.0 <= number < 1.0)
        ):
            raise InputError(
                f"A threshold lies in [0, 1), on the map stretched to 0 to 1, or is 'mean' or "
                f"'otsu'; got {self.threshold!r}."
            )
        if number is not None:
            # Of numpy or torch too: settings are written as JSON.
            object.__setattr__(self, "threshold", number)

    @property
    def reported(self) -> tuple[str, ...]:
        """The measures of this form, the headline first."""
        return self.metrics if self.strict else self.published_metrics

    @property
    def label(self) -> str:
        """The name with its form, for tables: ``"daam (strict)"``, ``"daam (as published)"``."""
        return f"{self.name} ({'strict' if self.strict else 'as published'})"

    def question(self, sample: Sample, data: DataSet) -> Question | Skipped:
        """What is asked about an image: here its own prompt, or one that names its words."""
        asked = asked_targets(sample)
        if not asked:
            return Skipped("it has no target")
        return Question(sample.prompt or article([one.text for one in asked]), asked)

    def score(
        self, question: Question, answers: Answers, sample: Sample, data: DataSet
    ) -> dict[str, Any]:
        """The scores of an image, as :mod:`diffusers_rdaam.evaluation.measures` reads them."""
        raise NotImplementedError

    def scored_pixels(self, sample: Sample) -> np.ndarray:
        """``(height, width)`` which pixels count: as published also borders, crowds, no label."""
        return sample.scored if self.strict else np.ones_like(sample.scored)

    def mask(self, one: WordMap, size: Size, default: float | str | None = None) -> np.ndarray:
        """The mask of a map at a size, by the honest rule: bicubic, stretched, over the threshold.

        Args:
            one: the map.
            size: height and width.
            default: the protocol's threshold; the map's own if None.
        """
        values = stretched(resized(one.values, size))
        chosen = self.threshold if self.threshold is not None else default
        return values > threshold_value(one.threshold if chosen is None else chosen, values)


def words_option(name: str, value: Any) -> tuple[str, ...] | None:
    """An option that is several words, as a tuple; None where it is not given.

    Raises:
        InputError: it is one text, whose letters would be the words, or one of them is not a text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        raise InputError(f"{name}= is several words; got the text {value!r:.80}. Give a list.")
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name}= is several words; got {value!r:.80}. Give a list.")
    wrong = next((one for one in value if not isinstance(one, str) or not one.strip()), None)
    if wrong is not None:
        raise InputError(f"{name}= is several words; got {wrong!r:.80} among them.")
    return tuple(value)


def boolean_option(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        InputError: as it says.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name}= is True or False; got {value!r:.80}.")


def threshold_value(threshold: float | str, values: np.ndarray) -> float:
    """The number of a threshold for a map that is stretched to 0 to 1."""
    if threshold == "mean":
        return float(values.mean())
    if threshold == "otsu":
        return otsu(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))
    return float(threshold)


def resized(values: np.ndarray, size: Size, mode: str = "bicubic") -> np.ndarray:
    """A map at another size.

    Args:
        values: ``(height, width)``.
        size: the new height and width.
        mode: ``"bicubic"`` (filtered where it shrinks), ``"bilinear"`` (likewise), ``"nearest"``.
    """
    if values.shape == size:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))[None, None]
    if mode == "nearest":
        return F.interpolate(tensor, size, mode="nearest")[0, 0].numpy()
    shrinks = values.shape[0] > size[0] or values.shape[1] > size[1]
    return F.interpolate(tensor, size, mode=mode, align_corners=False, antialias=shrinks)[
        0, 0
    ].numpy()


def nearest(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask or label map at another size, never interpolated."""
    if mask.shape == size:
        return mask
    return resized(mask.astype(np.float64), size, "nearest").astype(mask.dtype)


def stretched(values: np.ndarray) -> np.ndarray:
    """The map from 0 to 1; all 0 where it is flat."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def box_weights(box: Sequence[float], size: Size, grid: Sequence[int]) -> np.ndarray:
    """Which share of each cell of a map lies in a box of the image: ``(height, width)``."""
    sides = []
    for low, high, whole, cells in (
        (box[1], box[3], size[0], grid[0]),
        (box[0], box[2], size[1], grid[1]),
    ):
        edges = np.arange(cells + 1) * whole / cells
        inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        sides.append(np.clip(inside, 0.0, None) * cells / whole)
    return np.outer(*sides)


def asked_targets(sample: Sample) -> tuple[Asked, ...]:
    """One entry for each word: several targets of one class, or of one text, are one mask."""
    grouped: dict[tuple[str, str], list[Any]] = {}
    for one in sample.targets:
        grouped.setdefault((one.class_name or one.text, one.text), []).append(one)
    return tuple(
        Asked(
            text,
            name,
            np.logical_or.reduce([one.mask for one in group]),
            group[0].span if len(group) == 1 else None,
            group[0].box if len(group) == 1 else None,
        )
        for (name, text), group in grouped.items()
    )


def article(words: Sequence[str], template: str = "a {}", joint: str = " and ") -> str:
    """A prompt that names some words: ``"a dog and a cat"``."""
    return joint.join(template.format(word) for word in words)


def class_words(data: DataSet, sample: Sample) -> tuple[ClassName, ...]:
    """The classes of the data set; those of the sample's words where it has none."""
    if data.classes:
        return data.classes
    return tuple(ClassName(text) for text in dict.fromkeys(one.text for one in sample.targets))
