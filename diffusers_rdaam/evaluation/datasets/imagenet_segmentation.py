"""ImageNet-Segmentation (Guillaumin et al.): one MATLAB 7.3 file, which is HDF5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.extras import needed
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target

FILE = "gtsegs_ijcv.mat"


def imagenet_segmentation(
    root: Path, split: str = "", *, words: str | Path | None = None
) -> DataSet:
    """One object an image; nonzero labels are the object, and there is no border label.

    The file has WordNet ids; the words are those of a JSON file ``{"n02084071": "dog", …}``.

    Args:
        root: the file, or the folder with ``gtsegs_ijcv.mat``.
        split: it has none.
        words: the JSON file; ``classes.json`` next to the MATLAB file if not given.

    Raises:
        DataSetError: a file is missing or not as it should be.
        DataSetsExtraError: h5py is not installed.
    """
    h5py = needed("h5py", "ImageNet-Segmentation")
    path = root if root.is_file() else root / FILE
    if not path.is_file():
        raise DataSetError(f"There is no {FILE} at {path}.")
    listed = path.parent / "classes.json" if words is None else Path(words)
    table = _words(listed)
    synsets = _read(h5py, path, _ids)
    missing = sorted({one for one in synsets if one not in table})
    if missing:
        raise DataSetError(
            f"{listed} has no word for {len(missing)} classes, such "
            f"as {', '.join(missing[:3])}. It is a JSON object from WordNet id to word."
        )
    names = tuple(f"{number:05d}_{one}" for number, one in enumerate(synsets))
    classes = tuple(ClassName(word) for word in dict.fromkeys(table[one] for one in synsets))

    def read(name: str) -> Sample:
        number = int(name.partition("_")[0])
        pixels, mask = _read(h5py, path, lambda file: _entry(file, number))
        word = table[synsets[number]]
        targets = (Target(word, mask, word),) if mask.any() else ()
        meta = {"synset": synsets[number]}
        return Sample(name, Image.fromarray(pixels), None, targets, meta=meta)

    return DataSet(
        "imagenet_segmentation", names, read, classes, split=split, root=str(path.parent)
    )


def _words(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise DataSetError(
            f"There is no {path}: a JSON object from WordNet id to word, such as "
            '{"n02084071": "dog"}.'
        )
    found = reading.json_file(path)
    for key, word in found.items():
        if not isinstance(word, str) or not word.strip():
            raise DataSetError(f"{path}: the word of {key!r} is {json.dumps(word)[:60]}.")
    return found


def _read(h5py: Any, path: Path, ask: Any) -> Any:
    """What a function reads of the open file."""
    try:
        with h5py.File(path, "r") as file:
            return ask(file)
    except DataSetError:
        raise
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataSetError(
            f"{path} is not ImageNet-Segmentation's MATLAB 7.3 file with value/img, value/gt and "
            f"value/id: {error}"
        ) from error


def _ids(file: Any) -> list[str]:
    """The WordNet id of each image: ``"n01440764"`` of ``"n01440764_10"``."""
    refs = file["value/id"]
    texts = ["".join(map(chr, np.asarray(file[refs[i, 0]]).ravel())) for i in range(len(refs))]
    return [text.partition("_")[0] for text in texts]


def _entry(file: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ``(height, width, 3)`` and mask of a number; MATLAB's axes are the other way round."""
    pixels = np.asarray(file[file["value/img"][number, 0]]).transpose(2, 1, 0)
    inner = file[file["value/gt"][number, 0]]
    labels = np.asarray(file[inner[0, 0]]).transpose(1, 0)
    return np.ascontiguousarray(pixels.astype(np.uint8)), labels != 0
