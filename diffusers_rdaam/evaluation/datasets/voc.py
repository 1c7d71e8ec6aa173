"""PASCAL VOC 2012: palette label maps whose 255 is the border."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import voc_classes
from diffusers_rdaam.evaluation.extras import needed
from diffusers_rdaam.evaluation.sample import DataSet, Sample

BORDER = 255


def voc2012(root: Path, split: str = "val", *, masks: str = "SegmentationClass") -> DataSet:
    """The segmentation images of a split, where ``VOCdevkit/VOC2012`` or itself is ``root``.

    Args:
        root: the folder with ``JPEGImages``, ``ImageSets`` and the masks, or one over it.
        split: ``train``, ``val`` or ``trainval``.
        masks: ``"SegmentationClass"``; ``"SegmentationClassAug"`` for the plain label maps without
            border; ``"cls"`` for those of SBD (``.mat``, needs the extra ``datasets``).

    Raises:
        DataSetError: a folder or the list of the split is not there.
        DataSetsExtraError: ``masks="cls"`` without scipy.
    """
    for candidate in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (candidate / "JPEGImages").is_dir():
            root = candidate
            break
    images = reading.folder(root / "JPEGImages", "the images")
    maps = reading.folder(root / masks, "the masks")
    names = reading.listed(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    classes = voc_classes()
    numbered = dict(enumerate(classes, start=1))

    def read(name: str) -> Sample:
        path = maps / f"{name}{'.mat' if masks == 'cls' else '.png'}"
        numbers = _matlab(path) if masks == "cls" else reading.labels(path)
        targets, ignore = reading.targets_of(numbers, numbered, unscored=(BORDER,), where=str(path))
        picture = reading.image(reading.picture_of(images, name), masks=numbers.shape[:2])
        return Sample(name, picture, None, targets, ignore)

    return DataSet("voc2012", tuple(names), read, classes, split=split, root=str(root))


def _matlab(path: Path) -> np.ndarray:
    """``GTcls.Segmentation`` of SBD."""
    loaded: dict[str, Any] = matlab_file(path)
    try:
        return np.asarray(loaded["GTcls"]["Segmentation"][0, 0]).astype(np.int64)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DataSetError(f"{path} has no GTcls.Segmentation, as SBD's files have.") from error


def matlab_file(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of version 5.

    Raises:
        DataSetError: it cannot be read.
        DataSetsExtraError: scipy is not installed.
    """
    scipy_io = needed("scipy.io", "A .mat file")
    if not path.is_file():
        raise DataSetError(f"There is no file at {path}.")
    try:
        found: dict[str, Any] = scipy_io.loadmat(path)
    except Exception as error:
        # The reader raises what it likes on a damaged file.
        raise DataSetError(f"{path} cannot be read as a MATLAB file: {error}.") from error
    return found
