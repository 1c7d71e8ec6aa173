"""Video files: the maps of each latent frame once, the prompt once, the frames uncompressed.

A video file is an attribution file whose tensors have an axis more in front, of the latent frames,
and whose header says which of them each frame is of. So every field is checked by the code that
checks attributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusers_rdaam.attribution.files.attribution_file import build_record, content, without_kept
from diffusers_rdaam.attribution.files.header import (
    MAX_CELLS,
    MAX_KEPT_CELLS,
    check_header,
    check_shapes,
    tensor_names,
)
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.left_out import QUERIES, QUERIES_OF_A_VIDEO_FILE
from diffusers_rdaam.attribution.record import AnyRecord, Record, RunInfo
from diffusers_rdaam.errors import AttributionFileError, RDAAMError
from diffusers_rdaam.files.fields import MAX_AREA, Check, is_count, is_fact, is_text
from diffusers_rdaam.files.tensor_file import (
    FileKind,
    TensorSpec,
    check_finite,
    open_tensors,
    write_tensors,
)
from diffusers_rdaam.files.writing import check_suffix

# The version is that of the attributions within.
KIND = FileKind(
    "diffusers_rdaam.video",
    "2",
    "video",
    "video attribution",
    "not a video's attribution of diffusers_rdaam.",
)
MAX_FRAMES = 100_000
MAX_PIXELS = 64 * MAX_AREA  # of all frames together: 12 GiB
_IMAGES = "frames"


class Video(Protocol):
    """What is written of a video, whose class is defined above."""

    @property
    def parts(self) -> Sequence[Record]: ...
    @property
    def frame_mapping(self) -> FrameMapping: ...
    @property
    def images(self) -> tuple[Image.Image, ...]: ...
    @property
    def numbers(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, eq=False)
class VideoContent(Generic[AnyRecord]):
    """What a video file holds; see :class:`VideoAttribution`."""

    parts: tuple[AnyRecord, ...]
    frame_mapping: FrameMapping
    images: tuple[Image.Image, ...]
    numbers: tuple[int, ...]


def save_video(video: Video, path: Path, *, kept: bool, images: bool) -> Path:
    """Write ``video`` to ``path``, whole or not at all; see :meth:`VideoAttribution.save`."""
    check_suffix(path, KIND.noun)
    check = Check(path, KIND.noun, writing=True)
    # Latent frames that no frame is of have been cut off, and need no place.
    used = sorted(set(video.frame_mapping.latent))
    places = {part: place for place, part in enumerate(used)}
    found = [_part(video.parts[part], check, kept=kept) for part in used]
    header, first = found[0]
    header["video"] = {
        "latent": [places[part] for part in video.frame_mapping.latent],
        "how": video.frame_mapping.how,
        "numbers": list(video.numbers),
        "facts": [_other_facts(header["run"], other["run"]) for other, _ in found],
    }
    for other, _ in found[1:]:
        same = {**other, "run": header["run"], "video": header["video"]} == header
        check(same, "its latent frames differ in more than maps and facts about the run")
    tensors = {name: torch.stack([part[name] for _, part in found]) for name in first}
    if images and video.images:
        pixels = [np.array(image.convert("RGB")) for image in video.images]
        tensors[_IMAGES] = torch.from_numpy(np.stack(pixels))
    text, written = check.dumped(header)
    _check({name: TensorSpec.of(maps) for name, maps in tensors.items()}, written, check)
    for name, maps in tensors.items():
        check_finite(name, maps, check)
    return write_tensors(path, tensors, KIND.metadata(text), noun=KIND.noun)


def _part(record: Record, check: Check, *, kept: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and tensors of a latent frame, whose image is one of the frames."""
    record = record if kept else without_kept(record)
    return content(replace(record, image=None), check)


def _other_facts(first: RunInfo, other: RunInfo) -> RunInfo:
    """The facts about a latent frame's run that are not the first one's."""
    return {
        name: value for name, value in other.items() if name not in first or first[name] != value
    }


def load_video(path: Path, cls: type[AnyRecord]) -> VideoContent[AnyRecord]:
    """Read and check what :func:`save_video` wrote; the latent frames as records of ``cls``.

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid video.
    """
    check = Check(path, KIND.noun)
    with open_tensors(path, KIND.noun) as file:
        header = KIND.header(file)
        _check(file.specs, header, check)
        video = header.pop("video")
        names = tensor_names(header) + [name for name in ("mask", _IMAGES) if name in file.specs]
        tensors = {name: file.finite(name, check) for name in names}
    pixels = tensors.pop(_IMAGES, None)
    try:
        return VideoContent(
            _records(header, tensors, video["facts"], cls),
            FrameMapping(tuple(video["latent"]), video["how"]),
            () if pixels is None else tuple(Image.fromarray(one.numpy()) for one in pixels),
            tuple(video["numbers"]),
        )
    except AttributionFileError:
        raise
    except RDAAMError as error:
        raise AttributionFileError(f"{path} is not a valid {KIND.noun}: {error}") from error


def _records(
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    facts: Sequence[RunInfo],
    cls: type[AnyRecord],
) -> tuple[AnyRecord, ...]:
    """The records of the latent frames, which share the first one's prompt."""
    records: list[AnyRecord] = []
    for index, more in enumerate(facts):
        own = {name: maps[index] for name, maps in tensors.items()}
        record = build_record(header, own, cls)
        prompt = records[0].prompt if records else record.prompt
        left_out = {**record.left_out, QUERIES: QUERIES_OF_A_VIDEO_FILE}
        run = {**record.run, **more}
        records.append(replace(record, prompt=prompt, run=run, left_out=left_out))
    return tuple(records)


def _check(specs: Mapping[str, TensorSpec], header: Any, check: Check) -> None:
    """Check the header, and the types and shapes of all tensors, before one is read."""
    check(isinstance(header, dict), "its header is not an object")
    video = header.get("video")
    check(isinstance(video, dict), "it does not say which latent frame each frame is of")
    count = _check_frames(video, check)
    attribution = {name: value for name, value in header.items() if name != "video"}
    check_header(attribution, check)
    check("image" not in specs, "it has an image, and a video has frames")
    of_one: dict[str, TensorSpec] = {}
    for name, spec in specs.items():
        if name != _IMAGES:
            right = len(spec.shape) > 1 and spec.shape[0] == count
            check(right, f"{name} has shape {spec.shape} for {count} latent frames")
            of_one[name] = TensorSpec(spec.dtype, spec.shape[1:])
    check_shapes(of_one, attribution, check)
    grids = [s for name, s in specs.items() if "grid." in name or "squares." in name]
    cells = sum(spec.cells for spec in grids)
    check(cells <= MAX_CELLS, f"its grids have {cells} cells, over {MAX_CELLS}")
    large = sum(spec.cells for name, spec in specs.items() if "detail." in name or "self." in name)
    over = f"what was kept separately has {large} cells, over {MAX_KEPT_CELLS}"
    check(large <= MAX_KEPT_CELLS, over)
    if _IMAGES in specs:
        _check_images(specs[_IMAGES], header, check)


def _check_frames(video: Mapping[str, Any], check: Check) -> int:
    """Check what a header says of the frames; returns the number of latent frames."""
    check(set(video) == {"latent", "how", "numbers", "facts"}, "its frames have other fields")
    latent, numbers, facts = video["latent"], video["numbers"], video["facts"]
    right = isinstance(latent, list) and 1 <= len(latent) <= MAX_FRAMES
    right = right and isinstance(facts, list) and all(map(is_count, latent))
    check(right, "it has no list of the latent frame of each frame")
    every = sorted(set(latent)) == list(range(len(facts)))
    check(every, f"its frames are not of {len(facts)} latent frames, numbered from 0")
    right = isinstance(numbers, list) and len(numbers) == len(latent)
    check(right and all(map(is_count, numbers)), "the numbers of its frames are not a list")
    check(is_text(video["how"]), "the rule of its frames is not a text")
    for one in facts:
        right = isinstance(one, dict) and all(
            is_text(name) and is_fact(value) for name, value in one.items()
        )
        check(right, "the facts about its latent frames are not flat objects")
    return len(facts)


def _check_images(spec: TensorSpec, header: Mapping[str, Any], check: Check) -> None:
    height, width = header["image_size"]
    wanted = [len(header["video"]["latent"]), height, width, 3]
    right = spec.shape == wanted and spec.dtype == "U8"
    check(right, f"its frames have shape {spec.shape} and type {spec.dtype}")
    pixels = math.prod(wanted[:3])
    check(pixels <= MAX_PIXELS, f"its frames have {pixels} pixels, over {MAX_PIXELS}")
