"""ADE20K and Cityscapes: label maps of whole scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import CITYSCAPES
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target

NAMES = "objectInfo150.txt"


def ade20k(root: Path, split: str = "validation") -> DataSet:
    """The 150 classes of ``ADEChallengeData2016``; 0 is not scored.

    Args:
        root: the folder with ``images``, ``annotations`` and ``objectInfo150.txt``.
        split: ``training`` or ``validation``.

    Raises:
        DataSetError: one of them is missing.
    """
    maps = reading.folder(root / "annotations" / split, "the label maps (PNG)")
    images = reading.folder(root / "images" / split, "the images")
    classes = _ade_classes(root / NAMES)
    ids = tuple(sorted(path.stem for path in maps.glob("*.png")))

    def read(name: str) -> Sample:
        path = maps / f"{name}.png"
        numbers = reading.labels(path)
        targets, ignore = reading.targets_of(numbers, classes, unscored=(0,), where=str(path))
        picture = reading.image(reading.picture_of(images, name), masks=numbers.shape[:2])
        return Sample(name, picture, None, targets, ignore)

    return DataSet("ade20k", ids, read, tuple(classes.values()), split=split, root=str(root))


def _ade_classes(path: Path) -> dict[int, ClassName]:
    """Number, and synonyms after each other with ";" or ",", of a table with tabs."""
    classes: dict[int, ClassName] = {}
    for line in reading.text(path).splitlines():
        cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
        if len(cells) < 2 or not cells[0].isdigit():
            continue
        words = [word.strip() for word in cells[-1].replace(";", ",").split(",")]
        words = [word for word in words if word]
        name = words[0]
        if any(name == one.name for one in classes.values()):
            # Two classes of ADE20K begin with one word, such as "screen".
            name = ", ".join(words[:2])
        classes[int(cells[0])] = ClassName(name, tuple(words))
    if not classes:
        raise DataSetError(
            f"{path} has no line with a number and a name, separated by tabs: it is the list of "
            "ADE20K's 150 classes."
        )
    return classes


def cityscapes(root: Path, split: str = "val") -> DataSet:
    """The 19 classes that are scored, of the label ids in ``gtFine``; all other ids are not.

    Args:
        root: the folder with ``leftImg8bit`` and ``gtFine``.
        split: ``train`` or ``val``.

    Raises:
        DataSetError: one of them is missing.
    """
    maps = reading.folder(root / "gtFine" / split, "the label maps")
    images = reading.folder(root / "leftImg8bit" / split, "the images")
    ending = "_gtFine_labelIds.png"
    ids = tuple(sorted(path.name[: -len(ending)] for path in maps.glob(f"*/*{ending}")))
    classes = {number: ClassName(name) for number, name in CITYSCAPES.items()}

    def read(name: str) -> Sample:
        city = name.partition("_")[0]
        numbers = reading.labels(maps / city / f"{name}{ending}")
        ignore = ~np.isin(numbers, list(classes))
        targets = tuple(
            Target(one.word, numbers == number, one.name)
            for number, one in classes.items()
            if (numbers == number).any()
        )
        picture = reading.image(images / city / f"{name}_leftImg8bit.png", masks=numbers.shape[:2])
        return Sample(name, picture, None, targets, ignore if ignore.any() else None)

    return DataSet("cityscapes", ids, read, tuple(classes.values()), split=split, root=str(root))
