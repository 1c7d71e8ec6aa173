"""The plain form of a data set: ``images/``, ``masks/``, ``prompts.jsonl`` and ``dataset.json``.

::

    dataset.json    {"name", "ignore": 255, "background": 0, "generated": false,
                     "classes": {"1": {"name": "dog", "words": ["dog"], "template": "a {}"}}}
    images/ID.png   or .jpg; without the folder the images are generated from prompt and seed
    masks/ID.png    a label map (palette or grey, 8 or 16 bits), or masks/ID/TEXT.png, one a word
                    (black and white, or an alpha channel)
    prompts.jsonl   {"id", "prompt", "seed"?, "split"?, "targets"?: [{"text", "span"?, "class"?,
                     "mask"?, "box"?}]}
    prompts.csv     id,prompt[,seed][,split] in its place: the targets are the classes in the mask

All of it but the masks and the prompts may be left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import real_number
from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.datasets import reading
from diffusers_rdaam.evaluation.sample import ClassName, DataSet, Sample, Target, word_in

LINES, TABLE, FACTS = "prompts.jsonl", "prompts.csv", "dataset.json"


@dataclass(frozen=True)
class _Form:
    """What ``dataset.json`` says."""

    name: str
    classes: dict[int, ClassName]
    unscored: tuple[int, ...]
    generated: bool


def plain_folder(root: Path, split: str = "") -> DataSet:
    """A data set in the plain form.

    Args:
        root: its folder.
        split: only the entries that name it; all if empty.

    Raises:
        DataSetError: a file is missing, an id occurs twice, or an entry lacks a field.
    """
    reading.folder(root, f"{LINES} and masks/")
    form = _form(root / FACTS)
    entries = _entries(root)
    chosen = {key: one for key, one in entries.items() if not split or one.get("split") == split}
    if not chosen:
        known = sorted({str(one["split"]) for one in entries.values() if one.get("split")})
        splits = f"Splits: {', '.join(known)}." if known else "No entry names a split: give none."
        raise DataSetError(f"{root} has no entry of the split {split!r}. {splits}")
    reading.folder(root / "masks", "the masks")
    _check_masks(root, entries)
    generate = not (root / "images").is_dir()
    return DataSet(
        form.name,
        tuple(chosen),
        lambda name: _read(root, form, chosen[name], generate=generate),
        tuple(form.classes.values()),
        generated=form.generated or generate,
        split=split,
        root=str(root),
    )


def _form(path: Path) -> _Form:
    if not path.is_file():
        return _Form("folder", {}, (255,), False)
    found = reading.json_file(path)
    classes: dict[int, ClassName] = {}
    given = found.get("classes") or {}
    if not isinstance(given, dict):
        raise DataSetError(
            f"{path}: 'classes' is an object from the numbers of the masks to names, such as "
            f'{{"1": "dog"}}; got {given!r:.80}.'
        )
    for key, one in given.items():
        try:
            entry = {"name": one} if isinstance(one, str) else dict(one)
            words = tuple(map(str, entry.get("words") or ()))
            template = str(entry.get("template", "a {}"))
            classes[int(key)] = ClassName(str(entry["name"]), words, template)
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(error, DataSetError):
                raise DataSetError(f"{path}: {error}") from error
            raise DataSetError(
                f"{path}: a class is its number and an object with a name, such as "
                f'"1": {{"name": "dog"}}; got {key!r:.40}: {one!r:.80}.'
            ) from error
    ignored = found.get("ignore", 255)
    if ignored is not None and type(ignored) is not int:
        raise DataSetError(f"{path}: 'ignore' is a number of the masks or null; got {ignored!r}.")
    unscored = () if ignored is None else (ignored,)
    background, generated = found.get("background", 0), found.get("generated", False)
    if background is None:
        unscored = (*unscored, 0)
    elif background != 0 or isinstance(background, bool):
        raise DataSetError(
            f"{path}: 'background' is 0, or null where 0 is not scored; got {background!r:.40}. "
            "What is to be left out is 'ignore'."
        )
    if not isinstance(generated, bool):
        raise DataSetError(f"{path}: 'generated' is true or false; got {generated!r:.40}.")
    return _Form(str(found.get("name", "folder")), classes, unscored, generated)


def _entries(root: Path) -> dict[str, dict[str, Any]]:
    """The entries of the list of prompts, by id."""
    if (root / LINES).is_file():
        path, rows = root / LINES, _lines(root / LINES)
    elif (root / TABLE).is_file():
        path = root / TABLE
        rows = list(enumerate(csv.DictReader(reading.text(path).splitlines()), start=2))
    else:
        raise DataSetError(f"There is neither {LINES} nor {TABLE} in {root}.")
    found: dict[str, dict[str, Any]] = {}
    for number, row in rows:
        where = f"{path}, line {number}"
        if not isinstance(row, dict) or not row.get("id") or "prompt" not in row:
            raise DataSetError(f"{where}: an entry has an id and a prompt; got {row!r:.80}.")
        name = reading.plain_name(str(row["id"]), path)
        if name in found:
            raise DataSetError(f"{where}: the id {name!r} occurs twice.")
        found[name] = {**row, "where": where}
    if not found:
        raise DataSetError(f"{path} has no entry.")
    return found


def _lines(path: Path) -> list[tuple[int, Any]]:
    found = []
    for number, line in enumerate(reading.text(path).splitlines(), start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise DataSetError(f"{path}, line {number}: this is not JSON: {error}.") from error
    return found


def _check_masks(root: Path, entries: Mapping[str, Any]) -> None:
    """Refuse masks of which there is no entry: a mistake in a name would go unseen."""
    for path in sorted((root / "masks").iterdir()):
        name = path.name if path.is_dir() else path.stem
        if name not in entries and not path.name.startswith("."):
            raise DataSetError(f"{path} is a mask of {name!r}, which the list of prompts lacks.")


def _read(root: Path, form: _Form, entry: dict[str, Any], *, generate: bool) -> Sample:
    name = str(entry["id"])
    prompt = str(entry["prompt"] or "").strip() or None
    label_map = root / "masks" / f"{name}.png"
    numbers = reading.labels(label_map) if label_map.is_file() else None
    ignore = None if numbers is None else np.isin(numbers, list(form.unscored))
    if not isinstance(entry.get("targets") or [], list):
        raise DataSetError(
            f"{entry['where']}: 'targets' is a list of objects with a text; got "
            f"{entry['targets']!r:.80}."
        )
    if entry.get("targets"):
        targets = tuple(_target(root, form, entry, one, numbers) for one in entry["targets"])
    elif numbers is not None:
        targets = _named(form, numbers, prompt, label_map)
    else:
        targets = tuple(
            Target(path.stem, _word_mask(path))
            for path in sorted((root / "masks" / name).glob("*.png"))
        )
        if not targets:
            raise DataSetError(f"{entry['where']}: there is no mask of {name!r} in masks/.")
    _check_texts(targets, prompt, str(entry["where"]), asked=bool(entry.get("targets")))
    size = next((one.mask.shape[:2] for one in targets), None if ignore is None else ignore.shape)
    picture = None
    if not generate:
        picture = reading.image(reading.picture_of(root / "images", name), masks=size)
    seed = entry.get("seed")
    if seed not in (None, "") and not str(seed).isdigit():
        raise DataSetError(f"{entry['where']}: a seed is a whole number from 0; got {seed!r:.40}.")
    ignore = ignore if ignore is not None and ignore.any() else None
    number = None if seed in (None, "") else int(str(seed))
    cluster = str(entry.get("image") or name)
    return Sample(name, picture, prompt, targets, ignore, number, cluster)


def _named(form: _Form, numbers: np.ndarray, prompt: str | None, path: Path) -> tuple[Target, ...]:
    """The classes in the mask, each by the word that the prompt has; the usual one otherwise."""
    found, _ = reading.targets_of(numbers, form.classes, unscored=form.unscored, where=str(path))
    by_name = {one.name: one for one in form.classes.values()}
    targets = []
    for one in found:
        words = by_name[str(one.class_name)].words
        text = word_in(prompt or "", words) or words[0]
        targets.append(Target(text, one.mask, one.class_name))
    return tuple(targets)


def _target(
    root: Path, form: _Form, entry: dict[str, Any], one: Any, numbers: np.ndarray | None
) -> Target:
    where, name = str(entry["where"]), str(entry["id"])
    if not isinstance(one, dict) or not isinstance(one.get("text"), str):
        raise DataSetError(f"{where}: a target has a text; got {one!r:.80}.")
    kind = None
    if one.get("class") is not None:
        if one["class"] not in form.classes:
            raise DataSetError(f"{where}: {one['class']!r} is not a class of {FACTS}.")
        kind = form.classes[one["class"]]
    path = root / "masks" / name / f"{one['text']}.png"
    if one.get("mask"):
        mask = _word_mask(reading.inside(root, one["mask"], where))
    elif path.is_file():
        mask = _word_mask(path)
    elif kind is not None and numbers is not None:
        mask = numbers == int(one["class"])
    else:
        raise DataSetError(
            f"{where}: there is no mask of {one['text']!r}: neither {path.relative_to(root)} nor a "
            f"class in masks/{name}.png."
        )
    span, box = _numbers(one, "span", 2, where), _numbers(one, "box", 4, where)
    return Target(
        one["text"],
        mask,
        None if kind is None else kind.name,
        None if span is None else (int(span[0]), int(span[1])),
        None if box is None else (box[0], box[1], box[2], box[3]),
    )


def _numbers(entry: dict[str, Any], name: str, count: int, where: str) -> list[float] | None:
    """Some numbers of a target; None where it does not have them."""
    given = entry.get(name)
    if given is None:
        return None
    found = [real_number(one) for one in given] if isinstance(given, list) else []
    known = [one for one in found if one is not None]
    if len(known) != count or len(found) != count:
        raise DataSetError(f"{where}: {name!r} is a list of {count} numbers; got {given!r:.80}.")
    return known


def _check_texts(
    targets: tuple[Target, ...], prompt: str | None, where: str, *, asked: bool
) -> None:
    for one in targets if prompt and asked else ():
        assert prompt is not None
        start, end = one.span or (0, len(prompt))
        if one.text.casefold() not in prompt[start:end].casefold():
            raise DataSetError(
                f"{where}: {one.text!r} is not in the prompt {prompt!r:.100}"
                + (f" at {one.span}." if one.span else ".")
            )


def _word_mask(path: Path) -> np.ndarray:
    """A mask of one word: 1 bit, grey (nonzero), or the alpha channel where it says something.

    An image editor gives black and white an alpha channel that is opaque everywhere; the grey
    levels are the mask then.
    """
    picture = reading.picture(path)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        levels = np.asarray(picture.convert("RGBA"))
        grey = (levels[..., :3] == levels[..., :1]).all()
        if not grey or (levels[..., 3] < 255).any():
            return levels[..., 3] > 0
        return levels[..., 0] > 0
    if picture.mode not in ("1", "L", "P", "I", "I;16"):
        raise DataSetError(
            f"{path} is an image of mode {picture.mode}; a mask of a word is black and white, grey "
            "or has an alpha channel."
        )
    return np.array(picture) != 0


def write_dataset(data: DataSet, path: Path) -> Path:
    """Write any data set in the plain form: word masks, boxes, prompts, and images as PNG.

    Args:
        data: of any format.
        path: a folder that does not exist, or is empty.

    Raises:
        DataSetError: the folder has files; or two targets of an image that have one text.
    """
    if path.exists() and any(path.iterdir()):
        raise DataSetError(f"{path} is not empty. Give a new folder.")
    (path / "masks").mkdir(parents=True)
    numbers = {one.name: number for number, one in enumerate(data.classes, start=1)}
    lines = [json.dumps(_written(sample, path, numbers)) for sample in data]
    (path / LINES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    classes = {
        str(numbers[one.name]): {
            "name": one.name,
            "words": list(one.words),
            "template": one.template,
        }
        for one in data.classes
    }
    facts = {
        "name": data.name,
        "ignore": 255,
        "background": 0,
        "generated": data.generated,
        "classes": classes,
    }
    (path / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return path


def _written(sample: Sample, path: Path, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Write a sample's image and masks; returns its line."""
    if sample.image is not None:
        (path / "images").mkdir(exist_ok=True)
        sample.image.save(path / "images" / f"{sample.id}.png")
    if sample.ignore is not None:
        border = np.where(sample.ignore, 255, 0).astype(np.uint8)
        Image.fromarray(border).save(path / "masks" / f"{sample.id}.png")
    targets = []
    for number, one in enumerate(sample.targets):
        name = f"masks/{sample.id}/{number:03d}.png"
        (path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(one.mask).save(path / name)
        entry: dict[str, Any] = {"text": one.text, "mask": name}
        if one.class_name is not None:
            entry["class"] = numbers[one.class_name]
        if one.span is not None:
            entry["span"] = list(one.span)
        if one.box is not None:
            entry["box"] = list(one.box)
        targets.append(entry)
    line: dict[str, Any] = {"id": sample.id, "prompt": sample.prompt or "", "targets": targets}
    if sample.seed is not None:
        line["seed"] = sample.seed
    if sample.cluster != sample.id:
        line["image"] = sample.cluster
    return line
