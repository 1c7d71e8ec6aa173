"""The generated data sets of DAAM and OVAM: folders of prompts, images and word masks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from diffusers_rdaam.errors import AttributionFileError, DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import VOC, VOC_WORDS
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target
from diffusers_rdaam.files.pictures import read_picture

TRUTH = ".gt.png"
# OVAM's own words for four of the classes.
_OVAM_NAMES = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv"}
_OVAM_IMAGE = re.compile(r"(?P<name>.+?)_(?P<model>[^_]+(?:_[^_]+)*)_seed(?P<seed>\d+)")


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
        picture = reading.image(output) if output.is_file() else None
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
    template = "a photograph of a {}"
    classes = {
        _ovam_word(name).replace(" ", "-"): ClassName(name, _ovam_words(name), template)
        for name in VOC
    }
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
        masks = [np.asarray(reading.image(path)).any(axis=-1) for path in by_image[stem]]
        sizes = {mask.shape for mask in masks}
        if len(sizes) > 1:
            raise DataSetError(f"{stem}: its annotations have several sizes: {sorted(sizes)}.")
        prompt = template.format(kind.word)
        target = Target(kind.word, np.logical_or.reduce(masks), kind.name)
        picture = reading.image(files[stem])
        return Sample(stem, picture, prompt, (target,), seed=int(match["seed"]))

    names = tuple(classes.values())
    return DataSet("ovam_voc_sim", ids, read, names, generated=True, split=split, root=str(root))


def _ovam_word(name: str) -> str:
    return _OVAM_NAMES.get(name, name)


def _ovam_words(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((_ovam_word(name), *VOC_WORDS.get(name, (name,)))))
