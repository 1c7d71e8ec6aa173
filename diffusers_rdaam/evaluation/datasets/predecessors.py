"""The generated data sets of DAAM and OVAM: folders of prompts, images and word masks."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusers_rdaam.errors import AttributionFileError, DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import VOC, VOC_WORDS
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target, word_in
from diffusers_rdaam.files.pictures import read_picture

TRUTH = ".gt.png"
# OVAM's own words for four of the classes.
_OVAM_NAMES = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv"}
_OVAM_IMAGE = re.compile(r"(?P<name>.+?)_(?P<model>[^_]+(?:_[^_]+)*)_seed(?P<seed>\d+)")
_OVAM_TEMPLATE = "a photograph of a {}"
# "cat_sd15_caption123_seed7" is annotated as "cat_sd-15_caption_123_seed_7".
_CAPTIONED = re.compile(r"(?P<name>[^_]+)_[^_]+_caption_?(?P<caption>\d+)_seed_?(?P<seed>\d+)")
CAPTIONS = "coco_captions_sampled.csv"
_CAPTION_COLUMNS = ("caption_id", "caption", "category_name", "word_included")


def daam_experiments(root: Path, split: str = ".") -> DataSet:
    """DAAM's folders: ``<id>/{prompt.txt, seed.txt, <word>.gt.png}`` and ``<id>/output.png``.

    ``generation.pt`` is a pickle and is not opened: prompt, seed, image and masks are enough.

    Args:
        root: of the folders.
        split: the sub-experiment, a folder in each that has ``output.png``; ``"."`` for none.

    Raises:
        DataSetError: there is no folder with a prompt and a mask.
    """
    reading.folder(root, "DAAM's experiments")
    found = sorted(
        path.name for path in root.iterdir() if (path / "prompt.txt").is_file() and _masks(path)
    )
    if not found:
        raise DataSetError(f"{root} has no folder with a prompt.txt and a <word>{TRUTH}.")

    def read(name: str) -> Sample:
        folder = root / name
        prompt = reading.text(folder / "prompt.txt").strip()
        seed = folder / "seed.txt"
        targets = tuple(
            # A word is the stem of the file, in lower case.
            Target(path.name[: -len(TRUTH)].lower(), _alpha(path))
            for path in _masks(folder)
        )
        output = folder / split / "output.png"
        size = targets[0].mask.shape[:2]
        picture = reading.image(output, masks=size) if output.is_file() else None
        number = _seed(seed) if seed.is_file() else None
        return Sample(name, picture, prompt, targets, seed=number)

    return DataSet("daam", tuple(found), read, generated=True, split=split, root=str(root))


def _masks(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{TRUTH}"))


def _alpha(path: Path) -> np.ndarray:
    """The pixels of an RGBA mask that are not transparent."""
    try:
        picture = read_picture(path, formats=None)
    except AttributionFileError as error:
        raise DataSetError(str(error)) from error
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        raise DataSetError(
            f"{path} is an image of mode {picture.mode}; a mask of DAAM's is RGBA, and what is not "
            "transparent is the object."
        )
    return np.asarray(picture.convert("RGBA"))[..., 3] > 0


def _seed(path: Path) -> int:
    text = reading.text(path).strip()
    if not text.isdigit():
        raise DataSetError(f"{path} has {text!r:.40}; a seed is a whole number from 0.")
    return int(text)


def ovam_voc_sim(root: Path, split: str = "") -> DataSet:
    """OVAM's VOC-sim: ``images/{class}_{model}_seed{N}.png`` and ``annotations/{…}_*.png``.

    The prompt is "A photograph of a {class}"; several annotations of an image are one mask.

    Args:
        root: of ``images`` and ``annotations``.
        split: it has none.

    Raises:
        DataSetError: a folder is missing.
    """
    images = reading.folder(root / "images", "the images")
    annotations = reading.folder(root / "annotations", "the masks")
    classes = _ovam_classes()
    files = {path.stem: path for path in sorted(images.glob("*.png"))}
    by_image = {
        stem: sorted([*annotations.glob(f"{stem}_*.png"), *annotations.glob(f"{stem}.png")])
        for stem in files
    }
    ids = tuple(stem for stem, masks in by_image.items() if masks)

    def read(stem: str) -> Sample:
        match = _OVAM_IMAGE.fullmatch(stem)
        kind = next((one for key, one in classes.items() if stem.startswith(f"{key}_")), None)
        if match is None or kind is None:
            raise DataSetError(
                f"{files[stem]} is not named {{class}}_{{model}}_seed{{N}}.png. Classes: "
                f"{', '.join(classes)}."
            )
        prompt = _OVAM_TEMPLATE.format(kind.word)
        target = Target(kind.word, _ovam_mask(by_image[stem], stem), kind.name)
        picture = reading.image(files[stem], masks=target.mask.shape[:2])
        return Sample(stem, picture, prompt, (target,), seed=int(match["seed"]))

    names = tuple(classes.values())
    return DataSet("ovam_voc_sim", ids, read, names, generated=True, split=split, root=str(root))


def ovam_coco_cap(root: Path, split: str = "") -> DataSet:
    """OVAM's COCO-cap: images of captions, each with the mask of one class of VOC.

    ``images/{class}_{model}_caption{id}_seed{N}.png`` are annotated in
    ``annotations/{class}_{model}_caption_{id}_seed_{N}.png``; ``coco_captions_sampled.csv`` in the
    folder, or in the one over it, has the captions. Where a caption lacks the class, its usual word
    is asked for, which a recording of the prompt alone does not answer.

    Args:
        root: of ``images`` and ``annotations``.
        split: ``"included"``: captions that have the class's word; ``"not_included"``: the others;
            all if empty.

    Raises:
        DataSetError: a folder or the table is missing, or has no caption of an image.
    """
    images = reading.folder(root / "images", "the images")
    annotations = reading.folder(root / "annotations", "the masks")
    if split not in ("", "included", "not_included"):
        raise DataSetError(
            f"COCO-cap has the splits 'included' and 'not_included', of captions with the class's "
            f"word and without; got {split!r}."
        )
    captions = _captions(root)
    files: dict[str, Path] = {}
    masks: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(annotations.glob("*.png")):
        masks.setdefault(_captioned(path), []).append(path)
    for path in sorted(images.glob("*.png")):
        key = _captioned(path)
        if key[:2] not in captions:
            raise DataSetError(f"{CAPTIONS} has no caption {key[1]} of {key[0]}: {path} is of it.")
        if key in masks and split in ("", captions[key[:2]][1]):
            files[path.stem] = path
    classes = _ovam_classes()

    def read(stem: str) -> Sample:
        key = _captioned(files[stem])
        if key[0] not in classes:
            raise DataSetError(f"{files[stem]} is not of a class of VOC: {', '.join(classes)}.")
        kind, (caption, _) = classes[key[0]], captions[key[:2]]
        text = word_in(caption, kind.words) or kind.word
        target = Target(text, _ovam_mask(masks[key], stem), kind.name)
        picture = reading.image(files[stem], masks=target.mask.shape[:2])
        return Sample(stem, picture, caption, (target,), seed=int(key[2]))

    names = tuple(classes.values())
    return DataSet(
        "ovam_coco_cap", tuple(files), read, names, generated=True, split=split, root=str(root)
    )


def _captioned(path: Path) -> tuple[str, ...]:
    """Class, caption and seed that a file is named by."""
    match = _CAPTIONED.fullmatch(path.stem)
    if match is None:
        raise DataSetError(f"{path} is not named {{class}}_{{model}}_caption{{id}}_seed{{N}}.png.")
    return match["name"], match["caption"], match["seed"]


def _captions(root: Path) -> dict[tuple[str, ...], tuple[str, str]]:
    """The captions by class and id, each with the split that it is in."""
    paths = (root / CAPTIONS, root.parent / CAPTIONS)
    path = next((one for one in paths if one.is_file()), None)
    if path is None:
        raise DataSetError(f"There is no {CAPTIONS} in {root} or over it: it has the captions.")
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for row in csv.DictReader(reading.text(path).splitlines()):
        missing = [name for name in _CAPTION_COLUMNS if row.get(name) is None]
        if missing:
            raise DataSetError(f"{path} has no column {missing[0]!r}, or a row without it.")
        there = row["word_included"].strip().lower() in ("true", "1")
        part = "included" if there else "not_included"
        # A caption with two classes may have the word of one alone.
        key = (row["category_name"].strip().replace(" ", "-"), row["caption_id"].strip())
        found[key] = (row["caption"].strip(), part)
    return found


def _ovam_classes() -> dict[str, ClassName]:
    """The classes by what files are named by."""
    return {
        _ovam_word(name).replace(" ", "-"): ClassName(name, _ovam_words(name), _OVAM_TEMPLATE)
        for name in VOC
    }


def _ovam_mask(paths: Sequence[Path], stem: str) -> np.ndarray:
    """The pixels that are not black in any of the annotations of an image."""
    masks = [np.asarray(reading.image(path)).any(axis=-1) for path in paths]
    sizes = {mask.shape for mask in masks}
    if len(sizes) > 1:
        raise DataSetError(f"{stem}: its annotations have several sizes: {sorted(sizes)}.")
    found: np.ndarray = np.logical_or.reduce(masks)
    return found


def _ovam_word(name: str) -> str:
    return _OVAM_NAMES.get(name, name)


def _ovam_words(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((_ovam_word(name), *VOC_WORDS.get(name, (name,)))))
