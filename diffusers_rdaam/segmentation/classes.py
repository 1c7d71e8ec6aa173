"""The classes of a segmentation, and where a prompt names them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers_rdaam.attribution.word_spans import find_phrase
from diffusers_rdaam.demo.world import COLOURS, SHAPES
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import read_text

# Index 0 is the background and 255 what is ignored, in one byte.
MOST_CLASSES = 254
LONGEST_NAME = 200
# The order and names of PASCAL VOC 2012, and the words that prompts have for them: names of one
# word that are two ("diningtable") are cut into pieces by every tokenizer.
VOC20 = {
    "aeroplane": ("aeroplane", "airplane"),
    "bicycle": ("bicycle", "bike"),
    "bird": ("bird",),
    "boat": ("boat",),
    "bottle": ("bottle",),
    "bus": ("bus",),
    "car": ("car",),
    "cat": ("cat",),
    "chair": ("chair",),
    "cow": ("cow",),
    "diningtable": ("dining table", "table"),
    "dog": ("dog",),
    "horse": ("horse",),
    "motorbike": ("motorbike", "motorcycle"),
    "person": ("person", "man", "woman", "child"),
    "pottedplant": ("potted plant",),
    "sheep": ("sheep",),
    "sofa": ("sofa", "couch"),
    "train": ("train",),
    "tvmonitor": ("tv", "tv monitor", "television"),
}
COCO80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ObjectClass:
    """A class of a segmentation.

    Args:
        name: as files have it.
        words: words and phrases by which a prompt names it; the name itself if not given. Where
            two of them overlap in a prompt, such as "circle" and "red circle", the longer counts.

    Raises:
        InputError: the name or a word is empty, not a text, or too long.
    """

    name: str
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        words = (self.name,) if not self.words else self.words
        object.__setattr__(self, "words", tuple(words))
        for text in (self.name, *self.words):
            if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_NAME:
                raise InputError(
                    f"A class has a name, and words of up to {LONGEST_NAME} characters; got "
                    f"{str(text)[:80]!r} for {str(self.name)[:80]!r}."
                )

    def spans(self, prompt: str) -> Spans:
        """Where the prompt names the class, as character spans in order."""
        found = sorted(
            {span for word in self.words for span in find_phrase(prompt, word)},
            key=lambda span: (span[0] - span[1], span[0]),
        )
        kept: list[tuple[int, int]] = []
        for start, end in found:
            if all(end <= first or start >= last for first, last in kept):
                kept.append((start, end))
        return tuple(sorted(kept))


def demo_classes() -> dict[str, tuple[str, ...]]:
    """The embedded models' shapes; "red circle" is a phrase for a circle, and finds it better."""
    return {shape: (*(f"{colour} {shape}" for colour in COLOURS), shape) for shape in SHAPES}


ClassesLike = Mapping[str, Sequence[str]] | Iterable[str | ObjectClass] | str


def object_classes(given: Any) -> tuple[ObjectClass, ...]:
    """The classes that a user names; their place from 1 is their index in masks.

    Args:
        given: ``"voc20"``, ``"coco80"`` or ``"demo"``; a list of names; or a mapping of names to
            their words in prompts.

    Raises:
        InputError: it is none of these, empty, over 254 classes, or has a name twice.
    """
    tables: dict[str, Any] = {"voc20": VOC20, "coco80": COCO80, "demo": demo_classes()}
    if isinstance(given, str):
        if given not in tables:
            raise InputError(
                f"There is no table of classes {given[:80]!r}. Tables: {', '.join(tables)}. Or "
                "give a list of names: ['dog', 'potted plant']."
            )
        given = tables[given]
    if isinstance(given, Mapping):
        classes = [ObjectClass(name, _texts(name, words)) for name, words in given.items()]
    elif isinstance(given, Iterable):
        classes = [one if isinstance(one, ObjectClass) else ObjectClass(one) for one in given]
    else:
        raise InputError(f"Classes are a list of names; got a {type(given).__name__}.")
    _check_names([one.name for one in classes])
    return tuple(classes)


def _texts(name: str, words: Any) -> tuple[str, ...]:
    # A text is a sequence of letters, and each would be a word.
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise InputError(f"The words of class {name!r} are a list of texts; got {words!r}.")
    return tuple(words)


def _check_names(names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MOST_CLASSES:
        raise InputError(
            f"A segmentation has 1 to {MOST_CLASSES} classes, as masks have one byte a pixel; got "
            f"{len(names)}."
        )
    folded = [" ".join(name.split()).casefold() for name in names]
    twice = next((name for name in names if folded.count(" ".join(name.split()).casefold()) > 1), 0)
    if twice:
        raise InputError(f"The class {twice!r} occurs twice. Give each name once.")


def read_classes(path: Path) -> tuple[ObjectClass, ...]:
    """Classes from a JSON file: a list of names, or an object of names and their words.

    Raises:
        InputError: the file is neither.
    """
    text = read_text(path, "file of classes")
    try:
        return object_classes(parse_json(text))
    except (InputError, ValueError) as error:
        example = json.dumps({"tvmonitor": ["tv", "television"]})
        raise InputError(
            f"{path} does not hold classes: {error} Give a JSON list of names, or names with "
            f"their words: {example}."
        ) from error
