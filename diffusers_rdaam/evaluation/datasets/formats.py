"""The table of formats: a new one is a file here and a line in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diffusers_rdaam.errors import DataSetError, InputError, RDAAMError
from diffusers_rdaam.evaluation.datasets.coco import (
    coco_instances,
    coco_panoptic,
    coco_stuff,
    coco_stuff_27,
)
from diffusers_rdaam.evaluation.datasets.context import pascal_context
from diffusers_rdaam.evaluation.datasets.imagenet_segmentation import imagenet_segmentation
from diffusers_rdaam.evaluation.datasets.plain_folder import plain_folder
from diffusers_rdaam.evaluation.datasets.predecessors import (
    daam_experiments,
    ovam_coco_cap,
    ovam_voc_sim,
)
from diffusers_rdaam.evaluation.datasets.scenes import ade20k, cityscapes
from diffusers_rdaam.evaluation.datasets.voc import voc2012
from diffusers_rdaam.evaluation.sample import DataSet, Sample
from diffusers_rdaam.suggestions import check_keywords, unknown_name


@dataclass(frozen=True)
class Format:
    """One format of data sets.

    Args:
        read: from the folder and the split to the data set.
        files: what lies in the folder, in words.
        split: that is read by default.
        options: the names of further arguments.
    """

    read: Callable[..., DataSet]
    files: str
    split: str
    options: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "folder": Format(plain_folder, "images/ masks/ prompts.jsonl", ""),
    "voc2012": Format(
        voc2012, "JPEGImages/ SegmentationClass/ ImageSets/Segmentation/", "val", ("masks",)
    ),
    "pascal_context": Format(
        pascal_context, "JPEGImages/ and trainval_merged.json or trainval/*.mat", "val"
    ),
    "coco_instances": Format(
        coco_instances, "annotations/instances_*.json and the images", "val2017"
    ),
    "coco_panoptic": Format(
        coco_panoptic, "annotations/panoptic_*.json, its PNGs and the images", "val2017"
    ),
    "coco_stuff": Format(coco_stuff, "stuffthingmaps/, labels.txt and the images", "val2017"),
    "coco_stuff_27": Format(coco_stuff_27, "stuffthingmaps/ and the images", "val2017"),
    "imagenet_segmentation": Format(
        imagenet_segmentation, "gtsegs_ijcv.mat and classes.json", "", ("words",)
    ),
    "ade20k": Format(ade20k, "images/ annotations/ objectInfo150.txt", "validation"),
    "cityscapes": Format(cityscapes, "leftImg8bit/ gtFine/", "val"),
    "daam": Format(daam_experiments, "ID/prompt.txt, seed.txt, WORD.gt.png, output.png", "."),
    "ovam_voc_sim": Format(ovam_voc_sim, "images/ annotations/", ""),
    "ovam_coco_cap": Format(
        ovam_coco_cap, "images/ annotations/ and coco_captions_sampled.csv", ""
    ),
}


def open_dataset(
    root: str | Path, name: str = "folder", *, split: str | None = None, **options: Any
) -> DataSet:
    """A data set on disk, read where it lies; images and masks are read when they are asked for.

    Args:
        root: its folder.
        name: of the format: ``"folder"``, ``"voc2012"``, ``"coco_instances"``, …
        split: the format's usual one if not given.
        options: of the format: ``masks=`` of ``"voc2012"``, ``words=`` of
            ``"imagenet_segmentation"``.

    Raises:
        InputError: there is no such format or option.
        DataSetError: the folder is not as the format says.
        DataSetsExtraError: the format needs a library that is not installed.
    """
    if name not in FORMATS:
        raise InputError(unknown_name(name, FORMATS, "a format of data sets"))
    form = FORMATS[name]
    check_keywords(options, form.options, f"open_dataset(…, {name!r})")
    path = Path(root)
    if not path.exists():
        raise InputError(
            f"There is no folder {path}. Give the folder of the data set: {name} has {form.files}."
        )
    try:
        found = form.read(path, form.split if split is None else split, **options)
    except _DAMAGED as error:
        raise _not_as(name, str(path), error) from error
    return replace(found, read=partial(_read, found.read, name))


# What reading raises where a field is missing or of another type; the package's own errors, some of
# which are of these types, say more and are left as they are.
_DAMAGED = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def _read(read: Callable[[str], Sample], name: str, sample: str) -> Sample:
    """Read a sample; whatever is wrong with its entries is an error that names it.

    Raises:
        DataSetError: its image, masks or entries cannot be read.
    """
    try:
        return read(sample)
    except _DAMAGED as error:
        raise _not_as(name, sample, error) from error


def _not_as(name: str, where: str, error: Exception) -> Exception:
    if isinstance(error, RDAAMError):
        return error
    what = f"there is no {error}" if isinstance(error, KeyError) else f"{error}"
    return DataSetError(
        f"{where} is not as {name} has it, which is {FORMATS[name].files}: {what[:300]} "
        f"({type(error).__name__})."
    )
