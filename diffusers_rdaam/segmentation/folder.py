"""A folder of images with masks: written image by image, and gone on with after an interruption.

::

    dataset.json     the classes, and which number means what
    images/ID.png    masks/ID.png (a palette image: the number of a pixel is its class)
    prompts.jsonl    a line for each image that is kept: its prompt, seed and classes
    dropped.jsonl    a line for each that is not, and why; its files are in dropped/
    generated.jsonl  the journal: a line for each image that was made, as soon as it is whole
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.files.fields import is_count, is_text, shown
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import check_no_way_out, read_text
from diffusers_rdaam.files.pictures import read_picture, write_png
from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.segmentation.classes import ObjectClass, object_classes
from diffusers_rdaam.segmentation.label_map import BACKGROUND, IGNORE, Segmentation
from diffusers_rdaam.segmentation.sample import Choice, SampleFacts

DATASET, PROMPTS, DROPPED, JOURNAL = (
    "dataset.json",
    "prompts.jsonl",
    "dropped.jsonl",
    "generated.jsonl",
)
IMAGES, MASKS = "images", "masks"
# The journal of a million images.
_LONGEST = 2**30
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,119}", re.ASCII)


def check_id(id: Any) -> str:
    """The id of an image, which names its files.

    Raises:
        InputError: it is not a plain name.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise InputError(
            f"An image's id names its files: up to 120 letters, digits, '_', '-' and '.', the "
            f"first a letter or digit; got {str(id)[:80]!r}."
        )
    return id


class SegmentationFolder:
    """A data set on disk, open for more images.

    Args:
        path: of the folder; it is made where it is missing.
        classes: of the masks.
        settings: of the generation, for JSON. A folder that was begun with others is refused, so
            that no data set is of two kinds. None opens what is there, whatever its settings.
        ignored: the numbers of its masks that are not counted.

    Raises:
        InputError: the folder cannot be written, is not empty and not a data set of ours, or was
            begun with other settings or classes.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[ObjectClass],
        settings: Mapping[str, Any] | None,
        *,
        ignored: Sequence[int] = (IGNORE,),
    ) -> None:
        self.path = Path(path)
        self.classes = tuple(classes)
        self.ignored = tuple(ignored)
        if settings is None:
            return
        header = {
            "name": self.path.name,
            "ignore": IGNORE,
            "background": BACKGROUND,
            "generated": True,
            "classes": {
                str(number): {"name": one.name, "words": list(one.words)}
                for number, one in enumerate(self.classes, 1)
            },
            "settings": dict(settings),
        }
        try:
            self._begin(json.loads(json.dumps(header)))
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.path} cannot be written: {error}. Give a folder that may be made or "
                "written."
            ) from error

    def _begin(self, header: dict[str, Any]) -> None:
        file = self.path / DATASET
        if file.exists():
            before = _read_header(file)
            for key in ("classes", "settings"):
                if before.get(key) != header[key]:
                    raise InputError(_other_settings(self.path, before.get(key), header[key]))
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise InputError(
                f"{self.path} is not empty and not a data set that this command began: it has no "
                f"{DATASET}. Give a new folder."
            )
        for name in ("", IMAGES, MASKS):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_text(file, json.dumps(header, indent=2, ensure_ascii=False), "data set")

    def add(self, facts: SampleFacts, segmentation: Segmentation) -> None:
        """Write an image and its mask, and then its line in the journal.

        Raises:
            InputError: the id is not a plain name, there is no image, or a file cannot be written.
        """
        name = f"{check_id(facts.id)}.png"
        if segmentation.image is None:
            raise InputError(f"The segmentation of {facts.id!r} has no image, and a data set has.")
        write_png(self.path / IMAGES / name, segmentation.image)
        write_png(self.path / MASKS / name, segmentation.label_image(), "mask")
        line = json.dumps(_row(facts), ensure_ascii=False)
        try:
            with (self.path / JOURNAL).open("a", encoding="utf-8", newline="\n") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"The journal of {self.path} could not be written: {error}. Make room on the disk, "
                "and start again: what is there is kept."
            ) from error

    def samples(self) -> list[SampleFacts]:
        """The facts of all images that are whole, in the order of their making.

        Raises:
            AttributionFileError: a line of the journal is not one of ours.
        """
        path = self.path / JOURNAL
        if not path.exists():
            return []
        text = read_text(path, "journal", limit=_LONGEST)
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            # An interrupt cut the last line; its image is made again.
            write_text(path, whole, "journal")
        found = [_facts(path, n, line) for n, line in enumerate(whole.splitlines(), 1)]
        return list({facts.id: facts for facts in found}.values())

    def segmentation(self, id: str) -> Segmentation:
        """An image and its mask, kept or dropped.

        Raises:
            AttributionFileError: a file is missing or not a mask.
        """
        folder = self._place(check_id(id))
        endings = (".png", ".jpg", ".jpeg")
        images = [folder / IMAGES / f"{id}{ending}" for ending in endings]
        return read_segmentation(
            next((path for path in images if path.exists()), images[0]),
            folder / MASKS / f"{id}.png",
            tuple(one.name for one in self.classes),
            ignored=self.ignored,
        )

    def _place(self, id: str) -> Path:
        dropped = self.path / "dropped"
        return dropped if (dropped / MASKS / f"{id}.png").exists() else self.path

    def publish(self, choice: Choice) -> None:
        """Write which images are kept, and move the files of the others to ``dropped/``.

        It may be done again with another choice.

        Raises:
            InputError: a file cannot be written.
        """
        dropped = self.path / "dropped"
        try:
            for facts in choice.kept:
                self._move(facts.id, dropped, self.path)
            for id in choice.dropped:
                self._move(id, self.path, dropped)
        except OSError as error:
            raise InputError(f"Files of {self.path} could not be moved: {error}.") from error
        rows = [_prompt_row(facts, self.classes) for facts in choice.kept]
        write_text(self.path / PROMPTS, _lines(rows), "list of prompts")
        reasons = [{"id": id, "reason": why} for id, why in choice.dropped.items()]
        write_text(self.path / DROPPED, _lines(reasons), "list of dropped images")

    def _move(self, id: str, source: Path, target: Path) -> None:
        # The mask last: its place is what says where the image is.
        for kind in (IMAGES, MASKS):
            old, new = source / kind / f"{id}.png", target / kind / f"{id}.png"
            if old.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                old.replace(new)


def read_segmentation(
    image: Path, mask: Path, names: tuple[str, ...], *, ignored: Sequence[int] = (IGNORE,)
) -> Segmentation:
    """An image and its mask of class numbers.

    Args:
        image, mask: their files.
        names: of the classes, from number 1.
        ignored: the numbers that are not counted; they become 255.

    Raises:
        AttributionFileError: a file is missing, or is not an image or a mask of the image's size.
        InputError: the mask has a number that is not a class.
    """
    for path in (image, mask):
        check_no_way_out(path.parent.parent, path)
    picture = read_picture(image, formats=("PNG", "JPEG")).convert("RGB")
    found = read_picture(mask)
    if found.mode not in ("P", "L") or found.size != picture.size:
        raise AttributionFileError(
            f"{mask} is a mask of {found.width}x{found.height} pixels in mode {found.mode}, and "
            f"{image} has {picture.width}x{picture.height}. A mask is of the image's size, in "
            "grey or with a palette (L or P): the number of a pixel is its class."
        )
    labels = torch.from_numpy(np.array(found, dtype=np.int64))
    try:
        if IGNORE not in ignored and bool((labels == IGNORE).any()):
            raise InputError(f"{IGNORE} is not a class, and {DATASET} does not ignore it.")
        for number in ignored:
            labels = labels.masked_fill(labels == number, IGNORE)
        return Segmentation(labels, names, picture)
    except InputError as error:
        raise InputError(f"{mask}: {error}") from error


def open_folder(path: str | Path) -> SegmentationFolder:
    """A data set that was written before.

    Raises:
        InputError: there is none.
    """
    file = Path(path) / DATASET
    header = _read_header(file)
    classes = object_classes({one["name"]: one["words"] for one in header["classes"].values()})
    return SegmentationFolder(path, classes, None, ignored=_ignored(header, file))


def _ignored(header: Mapping[str, Any], file: Path) -> tuple[int, ...]:
    """The numbers of masks that are not counted, as ``rdaam evaluate`` reads them too."""
    ignore, background = header.get("ignore", IGNORE), header.get("background", BACKGROUND)
    right = ignore is None or is_count(ignore, IGNORE)
    if not right or not (background is None or is_count(background, BACKGROUND)):
        raise InputError(
            f"{file}: 'ignore' is a number of the masks or null, and 'background' 0, or null where "
            f"0 is not counted; got {shown(str(ignore))} and {shown(str(background))}."
        )
    void = () if ignore is None else (ignore,)
    return void if background is not None else (*void, BACKGROUND)


def _read_header(file: Path) -> dict[str, Any]:
    try:
        header = parse_json(read_text(file, "data set"))
    except AttributionFileError as error:
        raise InputError(f"{file.parent} is not a data set: {error}") from error
    except ValueError as error:
        raise InputError(f"{file} is not the header of a data set: {error}.") from error
    header = header if isinstance(header, dict) else {}
    classes = header.get("classes")
    right = isinstance(classes, dict) and list(classes) == [
        str(number) for number in range(1, len(classes) + 1)
    ]
    right = right and all(
        isinstance(one, dict) and is_text(one.get("name")) for one in (classes or {}).values()
    )
    if not right:
        raise InputError(
            f"{file} is not the header of a data set: its classes are numbered from '1', each with "
            f"a name and words; got {shown(str(classes))}."
        )
    for one in header["classes"].values():
        one.setdefault("words", [one["name"]])
    return header


def _other_settings(path: Path, before: Any, now: Any) -> str:
    old, new = (given if isinstance(given, dict) else {} for given in (before, now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    changes = ", ".join(
        f"{name} {shown(str(old.get(name)))} (now {shown(str(new.get(name)))})"
        for name in names[:4]
    )
    return (
        f"{path} was begun with other settings: {changes}. Give the same to go on with it, or "
        "another folder."
    )


def _row(facts: SampleFacts) -> dict[str, Any]:
    return {
        "id": facts.id,
        "prompt": facts.prompt,
        "seed": facts.seed,
        "areas": dict(facts.areas),
        "is_safe": facts.is_safe,
        "clip": dict(facts.clip),
    }


def _facts(path: Path, number: int, line: str) -> SampleFacts:
    try:
        row = parse_json(line)
        facts = SampleFacts(**row)
        right = _ID.fullmatch(facts.id) and is_text(facts.prompt) and isinstance(facts.seed, int)
        right = right and isinstance(facts.areas, dict) and isinstance(facts.clip, dict)
        if not right:
            raise ValueError("a field is of another type")
    except (ValueError, TypeError) as error:
        raise AttributionFileError(
            f"Line {number} of {path} is not one of an image: {error}. Remove the line; its image "
            "is then made again."
        ) from error
    return facts


def _prompt_row(facts: SampleFacts, classes: Sequence[ObjectClass]) -> dict[str, Any]:
    targets = [
        {"text": facts.prompt[start:end], "span": [start, end], "class": number}
        for number, one in enumerate(classes, 1)
        if one.name in facts.areas
        for start, end in one.spans(facts.prompt)
    ]
    return {"id": facts.id, "prompt": facts.prompt, "seed": facts.seed, "targets": targets}


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_prompt_rows(path: Path) -> Iterator[tuple[str, str, int | None]]:
    """``(id, prompt, seed)`` of a file of prompts: a text with one a line, or JSON lines.

    Args:
        path: ``.jsonl`` has an object a line with ``prompt``, and ``id`` and ``seed`` if wanted;
            of any other file each line that is not empty is a prompt.

    Raises:
        InputError: a line is not an object with a prompt, or an id is there twice.
    """
    seen: set[str] = set()
    lines = read_text(path, "file of prompts").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row: Any = {"prompt": line.strip()}
        if path.suffix.lower() == ".jsonl":
            try:
                row = parse_json(line)
            except ValueError as error:
                raise InputError(f"Line {number} of {path} is not JSON: {error}.") from error
        fields: dict[str, Any] = row if isinstance(row, dict) else {}
        prompt, seed = fields.get("prompt", ""), fields.get("seed")
        right = is_text(prompt) and bool(prompt.strip())
        if not right or not (seed is None or is_count(seed, 2**64 - 1)):
            raise InputError(
                f"Line {number} of {path} is not a prompt: {line[:80]!r}. JSON lines have "
                '{"prompt": "a dog"}, and "id" and "seed" (0 to 2**64-1) if wanted.'
            )
        id = check_id(str(fields.get("id", f"{number:06d}")))
        if id in seen:
            raise InputError(
                f"Line {number} of {path} has the id {id!r}, which an earlier one has."
            )
        seen.add(id)
        yield id, prompt.strip(), seed


def read_kept(path: Path) -> list[tuple[str, str, int]]:
    """``(id, prompt, seed)`` of the images that a data set keeps.

    Raises:
        InputError: there is no list, or an image has no seed to be made again from.
    """
    rows = list(read_prompt_rows(path / PROMPTS))
    without = [id for id, _, seed in rows if seed is None]
    if without:
        raise InputError(
            f"{path / PROMPTS} has no seed for {without[0]!r}, so its image cannot be made again. "
            'Add "seed" to its line.'
        )
    return [(id, prompt, seed) for id, prompt, seed in rows if seed is not None]
