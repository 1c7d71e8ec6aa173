"""COCO: objects of the instances file, panoptic segments, and the label maps of COCO-Stuff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.datasets.class_lists import stuff_27, stuff_27_classes
from diffusers_rdaam.evaluation.datasets.run_length_text import mask_of
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target

UNLABELLED = 255


def coco_instances(root: Path, split: str = "val2017") -> DataSet:
    """Objects of 80 classes; each object is a target with its box, crowds are not scored.

    The prompt is the first caption where ``annotations/captions_{split}.json`` is there.

    Args:
        root: the folder with ``annotations`` and ``{split}`` (or ``images/{split}``).
        split: such as ``"val2017"``.

    Raises:
        DataSetError: a file is missing, or is not one of COCO.
    """
    path = root / "annotations" / f"instances_{split}.json"
    found = reading.json_file(path, "images", "annotations", "categories")
    classes = _categories(found["categories"], path)
    images = _images(found["images"], path)
    objects = _by_image(found["annotations"], path)
    folder, captions = _image_folder(root, split), _captions(root, split)

    def read(name: str) -> Sample:
        entry = images[name]
        picture = _picture(entry, folder, path)
        size = (picture.height, picture.width)
        ignore = np.zeros(size, dtype=bool)
        targets, crowds = [], 0
        for one in objects.get(entry["id"], []):
            where = f"{path}, annotation {one.get('id')}"
            mask = mask_of(one.get("segmentation"), size, where)
            if one.get("iscrowd"):
                ignore |= mask
                crowds += 1
                continue
            kind = _class_of(one, classes, where)
            targets.append(Target(kind.word, mask, kind.name, box=_edges(one, where)))
        # An object in front of a crowd is scored.
        for target in targets:
            ignore &= ~target.mask
        return Sample(
            name,
            picture,
            captions.get(entry["id"]),
            tuple(targets),
            ignore if ignore.any() else None,
            meta={"crowds": crowds},
        )

    return DataSet(
        "coco_instances",
        tuple(images),
        read,
        tuple(classes.values()),
        split=split,
        root=str(root),
    )


def coco_panoptic(root: Path, split: str = "val2017") -> DataSet:
    """Things and stuff, one target a segment; pixels of no segment (id 0) are not scored.

    Args:
        root: as for :func:`coco_instances`, with ``annotations/panoptic_{split}.json`` and the
            PNGs in ``annotations/panoptic_{split}``.
        split: such as ``"val2017"``.

    Raises:
        DataSetError: a file is missing, or is not one of COCO.
    """
    path = root / "annotations" / f"panoptic_{split}.json"
    found = reading.json_file(path, "images", "annotations", "categories")
    classes = _categories(found["categories"], path)
    images = _images(found["images"], path)
    segments = _segments(found["annotations"], path)
    maps = reading.folder(root / "annotations" / f"panoptic_{split}", "the segments (PNG)")
    folder, captions = _image_folder(root, split), _captions(root, split)

    def read(name: str) -> Sample:
        entry = images[name]
        if entry["id"] not in segments:
            raise DataSetError(f"{path} has no segments of image {entry['id']}.")
        annotation = segments[entry["id"]]
        numbers = _colour_ids(maps / reading.plain_name(annotation["file_name"], path))
        ignore = numbers == 0
        targets = []
        _check_segments(numbers, annotation, path)
        for one in annotation["segments_info"]:
            where = f"{path}, segment {one.get('id')}"
            mask = numbers == one.get("id")
            if one.get("iscrowd"):
                ignore |= mask
                continue
            kind = _class_of(one, classes, where)
            targets.append(Target(kind.word, mask, kind.name, box=_edges(one, where)))
        picture = _picture(entry, folder, path, numbers.shape[:2])
        return Sample(name, picture, captions.get(entry["id"]), tuple(targets), ignore)

    return DataSet(
        "coco_panoptic",
        tuple(images),
        read,
        tuple(classes.values()),
        split=split,
        root=str(root),
    )


def coco_stuff(root: Path, split: str = "val2017") -> DataSet:
    """The 171 classes of COCO-Stuff: PNGs of id - 1 in ``stuffthingmaps/{split}``.

    Names come from ``labels.txt`` (``"1: person"``) or ``annotations/stuff_{split}.json`` and
    ``instances_{split}.json``.

    Raises:
        DataSetError: a file is missing.
    """
    names = _stuff_names(root, split)
    classes = {number - 1: ClassName(name, (_word(name),)) for number, name in names.items()}
    return _stuff(root, split, "coco_stuff", classes, tuple(classes.values()))


def coco_stuff_27(root: Path, split: str = "val2017") -> DataSet:
    """COCO-Stuff in 27 coarse classes; no names are needed on disk.

    "food" and "furniture" are two classes each, of things and of stuff: ``food-things``,
    ``food-stuff``.

    Raises:
        DataSetError: a folder is missing.
    """
    classes = stuff_27_classes()
    by_name = {one.name: one for one in classes}
    coarse = {number - 1: by_name[name] for number, name in stuff_27().items()}
    return _stuff(root, split, "coco_stuff_27", coarse, classes)


def _stuff(
    root: Path,
    split: str,
    name: str,
    by_number: Mapping[int, ClassName],
    classes: tuple[ClassName, ...],
) -> DataSet:
    maps = reading.folder(root / "stuffthingmaps" / split, "the label maps (PNG)")
    folder = _image_folder(root, split)
    ids = tuple(sorted(path.stem for path in maps.glob("*.png")))

    def read(stem: str) -> Sample:
        path = maps / f"{stem}.png"
        numbers = reading.labels(path)
        ignore = numbers == UNLABELLED
        masks: dict[str, np.ndarray] = {}
        for number in map(int, np.unique(numbers[~ignore])):
            if number not in by_number:
                raise DataSetError(
                    f"{path} has the number {number}, which is not a class; numbers are COCO's ids "
                    f"less 1, and {UNLABELLED} for no label."
                )
            key = by_number[number].name
            masks[key] = masks.get(key, False) | (numbers == number)
        known = {one.name: one for one in classes}
        targets = tuple(Target(known[key].word, mask, key) for key, mask in masks.items())
        picture = reading.image(reading.picture_of(folder, stem), masks=numbers.shape[:2])
        return Sample(stem, picture, None, targets, ignore if ignore.any() else None)

    return DataSet(name, ids, read, classes, split=split, root=str(root))


def _stuff_names(root: Path, split: str) -> dict[int, str]:
    listed = root / "labels.txt"
    if listed.is_file():
        pairs = [line.split(":", 1) for line in reading.text(listed).splitlines() if ":" in line]
        return {int(number): name.strip() for number, name in pairs if int(number) > 0}
    names: dict[int, str] = {}
    for kind in ("instances", "stuff"):
        path = root / "annotations" / f"{kind}_{split}.json"
        if path.is_file():
            found = reading.json_file(path, "categories")
            names.update({one["id"]: one["name"] for one in found["categories"]})
    if not names:
        raise DataSetError(
            f"The names of COCO-Stuff's classes are not in {root}: put labels.txt there, or "
            f"annotations/instances_{split}.json and annotations/stuff_{split}.json."
        )
    return dict(sorted(names.items()))


def _word(name: str) -> str:
    """``"wall-brick"`` as a prompt says it: ``"brick wall"``; ``"tree-other"``: ``"tree"``."""
    first, _, rest = name.partition("-")
    return first if rest in ("", "other", "stuff", "merged") else f"{rest} {first}"


def _categories(entries: Any, path: Path) -> dict[int, ClassName]:
    """Classes by id; ids have gaps."""
    try:
        pairs = {int(one["id"]): str(one["name"]) for one in entries}
    except (TypeError, KeyError, ValueError) as error:
        raise DataSetError(f"{path}: a category has an id and a name: {error!r}.") from error
    if len(pairs) != len(entries):
        raise DataSetError(f"{path}: two categories have one id.")
    return {key: ClassName(name, (_word(name),)) for key, name in sorted(pairs.items())}


def _images(entries: Any, path: Path) -> dict[str, dict[str, Any]]:
    """The entries of images by the stem of their file."""
    found: dict[str, dict[str, Any]] = {}
    ids: set[Any] = set()
    for one in entries:
        if not isinstance(one, dict) or not {"id", "file_name"} <= one.keys():
            raise DataSetError(f"{path}: an image has an id and a file_name; got {one!r:.80}.")
        stem = Path(reading.plain_name(one["file_name"], path)).stem
        if stem in found:
            raise DataSetError(f"{path}: the image {one['file_name']!r} occurs twice.")
        if one["id"] in ids:
            raise DataSetError(
                f"{path}: two images have the id {one['id']!r}, so that nothing says whose its "
                "annotations are."
            )
        ids.add(one["id"])
        found[stem] = one
    return found


def _picture(
    entry: dict[str, Any], folder: Path, path: Path, masks: tuple[int, int] | None = None
) -> Image.Image:
    """The image of an entry, in the size that the entry says: polygons are in its pixels.

    Raises:
        DataSetError: it cannot be read, or has another size.
    """
    sides = entry.get("height"), entry.get("width")
    height, width = sides
    said = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    picture = reading.image(folder / entry["file_name"], masks=said if masks is None else masks)
    if said is not None and picture.size != (width, height):
        raise DataSetError(
            f"{folder / entry['file_name']} is {picture.width} wide and {picture.height} high, and "
            f"{path} has it {width} wide and {height} high: its masks would be of other pixels. "
            "Give the images as they were annotated."
        )
    return picture


def _segments(entries: Any, path: Path) -> dict[Any, dict[str, Any]]:
    """The entry of each image's segments."""
    found: dict[Any, dict[str, Any]] = {}
    for one in entries:
        if one["image_id"] in found:
            raise DataSetError(f"{path}: the image {one['image_id']!r} has two lists of segments.")
        found[one["image_id"]] = one
    return found


def _check_segments(numbers: np.ndarray, annotation: dict[str, Any], path: Path) -> None:
    """Refuse a map with segments that are not listed: they would count as background."""
    listed = {one.get("id") for one in annotation["segments_info"]}
    unknown = [number for number in map(int, np.unique(numbers)) if number and number not in listed]
    if unknown:
        raise DataSetError(
            f"{annotation['file_name']} has the segment {unknown[0]}, which {path} does not list "
            f"for image {annotation['image_id']!r}. Ids are R + 256 G + 65536 B; 0 "
            "means without a segment."
        )


def _by_image(entries: Any, path: Path) -> dict[Any, list[dict[str, Any]]]:
    found: dict[Any, list[dict[str, Any]]] = {}
    for one in entries:
        if not isinstance(one, dict) or "image_id" not in one:
            raise DataSetError(f"{path}: an annotation has an image_id; got {one!r:.80}.")
        found.setdefault(one["image_id"], []).append(one)
    return found


def _class_of(entry: dict[str, Any], classes: Mapping[int, ClassName], where: str) -> ClassName:
    if entry.get("category_id") not in classes:
        raise DataSetError(f"{where}: {entry.get('category_id')!r} is not the id of a category.")
    return classes[entry["category_id"]]


def _edges(entry: dict[str, Any], where: str) -> tuple[float, float, float, float] | None:
    """COCO's ``[x, y, width, height]`` as left, top, right, bottom; None where it has no area."""
    box = entry.get("bbox")
    if box is None:
        return None
    try:
        x, y, width, height = (float(number) for number in box)
    except (TypeError, ValueError) as error:
        raise DataSetError(f"{where}: a bbox is [x, y, width, height]; got {box!r:.80}.") from error
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def _image_folder(root: Path, split: str) -> Path:
    inner = root / "images" / split
    return inner if inner.is_dir() else reading.folder(root / split, "the images")


def _captions(root: Path, split: str) -> dict[Any, str]:
    path = root / "annotations" / f"captions_{split}.json"
    if not path.is_file():
        return {}
    found: dict[Any, str] = {}
    for one in reading.json_file(path, "annotations")["annotations"]:
        found.setdefault(one.get("image_id"), str(one.get("caption", "")).strip())
    return found


def _colour_ids(path: Path) -> np.ndarray:
    """``R + 256 G + 65536 B`` of a panoptic PNG."""
    found = reading.picture(path)
    if found.mode != "RGB":
        raise DataSetError(
            f"{path} is an image of mode {found.mode}; a map of segments is RGB, and its colours "
            "are ids."
        )
    colours = np.asarray(found).astype(np.int64)
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]


def panoptic_picture(ids: np.ndarray) -> Image.Image:
    """The PNG of a map of segment ids: the inverse of what :func:`coco_panoptic` reads."""
    parts = [ids & 255, (ids >> 8) & 255, (ids >> 16) & 255]
    return Image.fromarray(np.stack(parts, axis=-1).astype(np.uint8))
