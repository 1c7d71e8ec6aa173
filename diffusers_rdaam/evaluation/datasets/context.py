"""PASCAL-Context: 59 of the 459 labels of VOC 2010's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import CONTEXT_59, VOC_WORDS
from diffusers_rdaam.evaluation.datasets.run_length_text import mask_of
from diffusers_rdaam.evaluation.datasets.voc import matlab_file
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample

MERGED = "trainval_merged.json"
# Names of images, and what reads the label map of one.
LabelMaps = tuple[list[str], Callable[[str], np.ndarray]]


def pascal_context(root: Path, split: str = "val") -> DataSet:
    """The 59 usual classes; everything else is not scored.

    Read from ``trainval_merged.json`` where that is there (it has the split), else from
    ``trainval/*.mat`` (needs the extra ``datasets``), with the split's list in
    ``ImageSets/Main/{split}.txt`` or ``{split}.txt``.

    Args:
        root: the folder with ``JPEGImages`` and one of the two.
        split: ``train`` or ``val``.

    Raises:
        DataSetError: neither is there.
    """
    images = reading.folder(root / "JPEGImages", "the images")
    classes = {number: _class(name) for number, name in CONTEXT_59.items()}
    maps = _merged(root, split) if (root / MERGED).is_file() else _matlab(root, split)
    names, numbers_of = maps

    def read(name: str) -> Sample:
        numbers = numbers_of(name)
        ignore = ~np.isin(numbers, list(classes))
        numbers = np.where(ignore, 0, numbers)
        targets, _ = reading.targets_of(numbers, classes, unscored=(0,), where=name)
        picture = reading.image(reading.picture_of(images, name), masks=numbers.shape[:2])
        return Sample(name, picture, None, targets, ignore)

    return DataSet(
        "pascal_context", tuple(names), read, tuple(classes.values()), split=split, root=str(root)
    )


def _class(name: str) -> ClassName:
    return ClassName(name, VOC_WORDS.get(name, (name,)))


def _matlab(root: Path, split: str) -> LabelMaps:
    """Names and the reader of label maps from ``trainval/*.mat``."""
    folder = reading.folder(root / "trainval", "the label maps (.mat)")
    lists = (root / "ImageSets" / "Main" / f"{split}.txt", root / f"{split}.txt")
    names = next((reading.listed(path) for path in lists if path.is_file()), None)
    if names is None:
        raise DataSetError(f"There is no list {lists[0]} or {lists[1]} of the split's images.")

    def numbers_of(name: str) -> np.ndarray:
        path = folder / f"{name}.mat"
        found = matlab_file(path)
        if "LabelMap" not in found:
            raise DataSetError(f"{path} has no LabelMap, as PASCAL-Context's files have.")
        return np.asarray(found["LabelMap"]).astype(np.int64)

    return names, numbers_of


def _merged(root: Path, split: str) -> LabelMaps:
    """Names and the reader of label maps from the merged JSON, later annotations over earlier."""
    path = root / MERGED
    found = reading.json_file(path, "images", "annos_segmentation")
    images = {one["image_id"]: one for one in found["images"] if one.get("phase") == split}
    if not images:
        phases = sorted({str(one.get("phase")) for one in found["images"]})
        raise DataSetError(f"{path} has no image of {split!r}. Phases: {', '.join(phases)}.")
    by_image: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
    for one in found["annos_segmentation"]:
        if one["image_id"] in by_image:
            by_image[one["image_id"]].append(one)
    stems = {Path(str(one["file_name"])).stem: key for key, one in images.items()}

    def numbers_of(name: str) -> np.ndarray:
        key = stems[name]
        size = (int(images[key]["height"]), int(images[key]["width"]))
        numbers = np.zeros(size, dtype=np.int64)
        for one in by_image[key]:
            mask = mask_of(one["segmentation"], size, f"{path}, image {key}")
            numbers[mask] = int(one["category_id"])
        return numbers

    return list(stems), numbers_of
