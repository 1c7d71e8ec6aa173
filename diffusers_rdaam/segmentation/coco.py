"""A data set as COCO has it: ``annotations/instances.json`` and ``captions.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.geometry.components import components
from diffusers_rdaam.geometry.run_lengths import run_lengths
from diffusers_rdaam.segmentation.folder import SegmentationFolder
from diffusers_rdaam.segmentation.label_map import LEAST_PART, Segmentation
from diffusers_rdaam.segmentation.sample import SampleFacts


def write_coco(
    folder: SegmentationFolder, samples: Iterable[SampleFacts], *, least: float = LEAST_PART
) -> list[Path]:
    """Write the annotations of images, which stay in ``images/``; returns the files' paths.

    An annotation is a connected part of a class, with its mask as run lengths. ``pycocotools`` and
    what is made of it open the files.

    Args:
        folder: of the images and masks.
        samples: the images to list.
        least: how many pixels a part has at least, as a share of the class's largest in the image.

    Raises:
        InputError: a file is missing or cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number, facts in enumerate(samples, 1):
        segmentation = folder.segmentation(facts.id)
        height, width = segmentation.size
        images.append(
            {"id": number, "file_name": f"{facts.id}.png", "width": width, "height": height}
        )
        captions.append({"id": number, "image_id": number, "caption": facts.prompt})
        for part in _annotations(segmentation, number, least):
            annotations.append({"id": len(annotations) + 1, **part})
    categories = [
        {"id": number, "name": one.name, "supercategory": "object"}
        for number, one in enumerate(folder.classes, 1)
    ]
    info = {"description": f"{folder.path.name}, masks from text attention"}
    head: dict[str, Any] = {"info": info, "licenses": [], "images": images}
    return [
        _write(
            folder.path / "annotations" / "instances.json",
            {**head, "annotations": annotations, "categories": categories},
        ),
        _write(folder.path / "annotations" / "captions.json", {**head, "annotations": captions}),
    ]


def _annotations(segmentation: Segmentation, image: int, least: float) -> Iterable[dict[str, Any]]:
    for name, mask in segmentation.objects(least=least):
        (part,) = components(mask)
        left, top, right, bottom = part.box
        yield {
            "image_id": image,
            "category_id": segmentation.number(name),
            "segmentation": run_lengths(mask),
            "area": part.pixels,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
        }


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, ensure_ascii=False), "annotations")
    return path
