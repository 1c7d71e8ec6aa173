"""Sample: one image with what is truly where in it; and the data set that samples are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import check_count
from diffusers_rdaam.errors import DataSetError, InputError
from diffusers_rdaam.suggestions import unknown_name


@dataclass(frozen=True)
class ClassName:
    """One class of a data set.

    Args:
        name: as the data set spells it; what numbers are reported under.
        words: how a prompt may say it, the usual one first; the name if none is given.
        template: of a prompt that names it alone, with ``{}`` for the word.
    """

    name: str
    words: tuple[str, ...] = ()
    template: str = "a {}"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataSetError("A class has no name.")
        if not self.words:
            object.__setattr__(self, "words", (self.name,))
        if not all(word.strip() for word in self.words):
            raise DataSetError(f"The class {self.name!r} has an empty word: a prompt says it so.")
        if self.template.count("{}") != 1:
            raise DataSetError(
                f"The template of the class {self.name!r} is {self.template!r}: it has one {{}} "
                "for the word, as in 'a {}'."
            )

    @property
    def word(self) -> str:
        """The usual word."""
        return self.words[0]


def word_in(prompt: str, words: Sequence[str]) -> str | None:
    """The first of some words that a prompt has, as whole words; None where it has none."""
    flat = "".join(c if c.isalnum() else " " for c in prompt.casefold()).split()
    for word in words:
        parts = word.casefold().split()
        if any(flat[i : i + len(parts)] == parts for i in range(len(flat) - len(parts) + 1)):
            return word
    return None


@dataclass(frozen=True, eq=False)
class Target:
    """What a word should find in an image.

    Args:
        text: the word or phrase, as a prompt says it.
        mask: ``(height, width)`` booleans, of the image's size.
        class_name: the class, in data sets that have classes.
        span: where the text stands in the sample's prompt, as characters; searched if not given.
        box: ``(left, top, right, bottom)`` pixels, half-open, where the data set has boxes;
            that of the mask if not given.
    """

    text: str
    mask: np.ndarray = field(repr=False)
    class_name: str | None = None
    span: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DataSetError("A target has no text: it is a word or phrase to look for.")
        if self.mask.ndim != 2 or self.mask.dtype != bool:
            raise DataSetError(
                f"The mask of {self.text!r} is {self.mask.dtype} {self.mask.shape}; it is boolean "
                "(height, width)."
            )
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (left < right and top < bottom and np.isfinite(self.box).all()):
                raise DataSetError(
                    f"The box of {self.text!r} is {self.box}; a box is (left, top, right, bottom) "
                    "in pixels, with left < right and top < bottom."
                )
        if self.span is not None and not 0 <= self.span[0] < self.span[1]:
            raise DataSetError(
                f"The span of {self.text!r} is {self.span}; a span is (start, end), characters of "
                "the prompt from 0, with start < end."
            )

    @property
    def edges(self) -> tuple[float, float, float, float] | None:
        """The box, or the smallest one around the mask; None where the mask is empty."""
        if self.box is not None:
            return self.box
        rows = np.flatnonzero(self.mask.any(axis=1))
        columns = np.flatnonzero(self.mask.any(axis=0))
        if not len(rows):
            return None
        return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a data set.

    Args:
        id: its name, which occurs once in a data set.
        image: in its own size; None where it is generated from prompt and seed.
        prompt: a text of it; None where the protocol makes one of the classes.
        targets: what is in it. Masks have the image's size.
        ignore: ``(height, width)`` pixels that are not scored: borders, crowds, no label; None
            where there are none.
        seed: of the noise it is generated from.
        cluster: the image that it is of, where several samples have one; its id if not given.
        meta: further facts.

    Raises:
        DataSetError: a mask has another size than the image, or there is neither an image nor a
            prompt; a box lies outside the image, or a span outside the prompt.
    """

    id: str
    image: Image.Image | None = field(default=None, repr=False)
    prompt: str | None = None
    targets: tuple[Target, ...] = ()
    ignore: np.ndarray | None = field(default=None, repr=False)
    seed: int | None = None
    cluster: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.id)
        if self.ignore is not None and not self.ignore.any():
            object.__setattr__(self, "ignore", None)
        if self.image is None and self.prompt is None:
            raise DataSetError(
                f"{self.id}: there is no image, and no prompt that one could be generated from."
            )
        wanted = self.size
        # A list: several objects of one image may have one text.
        masks = [(one.text, one.mask) for one in self.targets]
        if self.ignore is not None:
            masks.append(("the ignored pixels", self.ignore))
        for name, mask in masks:
            if wanted is not None and mask.shape != wanted:
                raise DataSetError(
                    f"{self.id}: the mask of {name!r} is {mask.shape[1]} wide and {mask.shape[0]} "
                    f"high, the image {wanted[1]} wide and {wanted[0]} high. Masks have the "
                    "image's own size; resizing belongs to the protocol."
                )
        for one in self.targets:
            self._check_place(one)

    def _check_place(self, target: Target) -> None:
        """Refuse a box outside the image, and a span outside the prompt."""
        if target.box is not None and self.size is not None:
            height, width = self.size
            left, top, right, bottom = target.box
            if right <= 0 or bottom <= 0 or left >= width or top >= height:
                raise DataSetError(
                    f"{self.id}: the box {target.box} of {target.text!r} lies outside the image, "
                    f"which is {width} wide and {height} high. A box is (left, top, right, bottom) "
                    "in pixels."
                )
        prompt, span = self.prompt, target.span
        if prompt is not None and span is not None and span[1] > len(prompt):
            raise DataSetError(
                f"{self.id}: the span {span} of {target.text!r} reaches beyond the prompt, which "
                f"has {len(prompt)} characters."
            )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, of the image or of the first mask; None where there is neither."""
        if self.image is not None:
            return (self.image.height, self.image.width)
        shapes = [one.mask.shape for one in self.targets]
        return (shapes[0][0], shapes[0][1]) if shapes else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are in it, each once, in order."""
        names = (one.class_name for one in self.targets if one.class_name is not None)
        return tuple(dict.fromkeys(names))

    @property
    def scored(self) -> np.ndarray:
        """``(height, width)`` which pixels count."""
        if self.ignore is not None:
            return ~self.ignore
        size = self.size
        return np.ones((0, 0) if size is None else size, dtype=bool)

    def mask_of(self, class_name: str) -> np.ndarray:
        """All pixels of a class: the union of its targets; all False where it is not there."""
        masks = [one.mask for one in self.targets if one.class_name == class_name]
        if masks:
            return np.logical_or.reduce(masks)
        return np.zeros(self.scored.shape, dtype=bool)


# Fills in what a generated image truly shows.
Judge = Callable[[Image.Image, Sample], Sample]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Samples that are read one at a time, where they lie.

    Args:
        name: of the format: ``"voc2012"``, ``"folder"``, …
        ids: of the samples, in order, each once.
        read: makes the sample of an id; raises :class:`DataSetError` for a bad one.
        classes: in order, background left out; empty where every sample has words of its own.
        generated: whether the images were made by a model. Their numbers are never put in one
            table with those of real images.
        split: such as ``"val"``.
        root: the folder.
        judge: says what a generated image shows, where no mask lies on disk.
        facts: further facts for reports.

    Raises:
        DataSetError: there is no sample, or an id occurs twice.
    """

    name: str
    ids: tuple[str, ...]
    read: Callable[[str], Sample] = field(repr=False)
    classes: tuple[ClassName, ...] = field(default=(), repr=False)
    generated: bool = False
    split: str = ""
    root: str = ""
    judge: Judge | None = field(default=None, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        where = f" in {self.root}" if self.root else ""
        if not self.ids:
            raise DataSetError(f"The data set {self.name} has no sample{where}.")
        if len(set(self.ids)) != len(self.ids):
            twice = next(one for one in self.ids if self.ids.count(one) > 1)
            raise DataSetError(
                f"The id {twice!r} occurs twice{where}. Ids name rows of the report: each sample "
                "has its own."
            )
        names = [one.name for one in self.classes]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataSetError(f"The class {twice!r} occurs twice{where}.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> Sample:
        """The sample of an id.

        Raises:
            InputError: there is no such id.
            DataSetError: its image or masks cannot be read.
        """
        if name not in self.ids:
            raise InputError(unknown_name(name, self.ids[:50], "an id of this data set"))
        return self.read(name)

    def __iter__(self) -> Iterator[Sample]:
        return (self.read(name) for name in self.ids)

    def first(self, count: int) -> DataSet:
        """The first samples."""
        return replace(self, ids=self.ids[: check_count(count, "count=")])

    def only(self, ids: tuple[str, ...]) -> DataSet:
        """Some of the samples, by id.

        Raises:
            InputError: one of them is not there.
        """
        for name in ids:
            if name not in self.ids:
                raise InputError(unknown_name(name, self.ids[:50], "an id of this data set"))
        return replace(self, ids=tuple(ids))

    def class_of(self, name: str) -> ClassName:
        """The class of a name.

        Raises:
            InputError: there is no such class.
        """
        for one in self.classes:
            if one.name == name:
                return one
        raise InputError(unknown_name(name, [one.name for one in self.classes], "a class"))
