"""A data set as PASCAL VOC has it: ``VOCdevkit/VOC2012`` with images, masks, boxes and lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from diffusers_rdaam.argument_checks import check_share
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.pictures import write_png
from diffusers_rdaam.files.writing import replacing, write_text
from diffusers_rdaam.geometry.components import components
from diffusers_rdaam.segmentation.folder import SegmentationFolder
from diffusers_rdaam.segmentation.label_map import (
    IGNORE,
    LEAST_PART,
    Segmentation,
    palette_image,
)
from diffusers_rdaam.segmentation.sample import SampleFacts

_QUALITY = 95
# Of SegmentationObject, whose indices are a byte with 255 for what is ignored.
_MOST_OBJECTS = 254


def write_voc(
    folder: SegmentationFolder,
    samples: Iterable[SampleFacts],
    *,
    validation: float = 0.1,
    least: float = LEAST_PART,
) -> Path:
    """Write the layout of VOC 2012 below the folder; returns the path of ``VOC2012``.

    Args:
        folder: of the images and masks.
        samples: the images to write, as JPEG.
        validation: the share of images in ``val.txt``; which, is decided by a hash of the id, so
            that more images change no earlier one's part.
        least: as in :func:`write_coco`, for boxes and ``SegmentationObject``.

    Raises:
        InputError: the share does not lie in [0, 1], or a file is missing or cannot be written.
    """
    share = check_share(validation, "validation=, a share of the images,")
    root = folder.path / "VOCdevkit" / "VOC2012"
    parts = ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations")
    try:
        for name in (*parts, "ImageSets/Segmentation"):
            (root / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root} cannot be made: {error}.") from error
    lists: dict[str, list[str]] = {"train": [], "val": [], "trainval": []}
    for facts in samples:
        segmentation = folder.segmentation(facts.id)
        objects = list(segmentation.objects(least=least))[:_MOST_OBJECTS]
        assert segmentation.image is not None
        with replacing(root / "JPEGImages" / f"{facts.id}.jpg", "image") as file:
            segmentation.image.save(file, format="JPEG", quality=_QUALITY, subsampling=0)
        write_png(
            root / "SegmentationClass" / f"{facts.id}.png", segmentation.label_image(), "mask"
        )
        write_png(
            root / "SegmentationObject" / f"{facts.id}.png",
            _object_image(segmentation, objects),
            "mask",
        )
        write_text(root / "Annotations" / f"{facts.id}.xml", _xml(facts.id, segmentation, objects))
        lists["val" if _draw(facts.id) < share else "train"].append(facts.id)
        lists["trainval"].append(facts.id)
    for name, ids in lists.items():
        text = "".join(f"{id}\n" for id in ids)
        write_text(root / "ImageSets" / "Segmentation" / f"{name}.txt", text, "list of images")
    return root


def _draw(id: str) -> float:
    """A number in [0, 1) that belongs to an id."""
    digest = hashlib.sha256(id.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _object_image(segmentation: Segmentation, objects: list) -> Image.Image:
    """The number of each object from 1, as a palette image."""
    numbers = np.zeros(segmentation.size, dtype=np.uint8)
    for number, (_, mask) in enumerate(objects, 1):
        numbers[mask.numpy()] = number
    numbers[(segmentation.labels == IGNORE).numpy()] = IGNORE
    return palette_image(numbers)


def _xml(id: str, segmentation: Segmentation, objects: list) -> str:
    height, width = segmentation.size
    lines = [
        "<annotation>",
        "  <folder>VOC2012</folder>",
        f"  <filename>{escape(id)}.jpg</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "  <segmented>1</segmented>",
    ]
    for name, mask in objects:
        left, top, right, bottom = components(mask)[0].box
        # VOC counts pixels from 1, and the last one is inside.
        lines += [
            "  <object>",
            f"    <name>{escape(name)}</name>",
            "    <truncated>0</truncated><difficult>0</difficult>",
            f"    <bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
