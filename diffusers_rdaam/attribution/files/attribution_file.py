"""Attribution files: safetensors with a JSON header. A file from a stranger is bad input.

Every field is checked before it is used and every size is bounded, by the same code on writing and
on reading; nothing is ever unpickled, and the image is raw pixels, so that no decoder meets a
stranger's bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusers_rdaam.attribution.files.header import (
    KIND,
    MAX_KEPT_CELLS,
    check_header,
    check_shapes,
    name_of,
    tensor_names,
)
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.attribution.left_out import (
    MAPS,
    NOT_IN_THE_FILE,
    OF_THE_PROMPT_ONLY,
    QUERIES,
    QUERIES_OF_A_FILE,
    SELF_ATTENTION,
    Absence,
    and_left_out,
)
from diffusers_rdaam.attribution.prompt_fields import build_prompt, further_fields, token_fields
from diffusers_rdaam.attribution.record import AnyRecord, Record
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import AttributionFileError, InputError, RDAAMError
from diffusers_rdaam.files.fields import Check
from diffusers_rdaam.files.tensor_file import (
    TensorSpec,
    check_finite,
    open_tensors,
    tensor_parts,
    write_tensors,
)
from diffusers_rdaam.files.writing import check_suffix
from diffusers_rdaam.geometry.region import Mask


def save_record(attribution: Record, path: Path, *, kept: bool = True) -> Path:
    """Write ``attribution`` to ``path``, whole or not at all.

    Args:
        kept: whether to write what was kept separately by step, layer and head, and self-attention.

    Raises:
        InputError: the folder does not exist or may not be written, the name ends as files of
            another format do, or a reader would refuse what would be written.
    """
    check_suffix(path, KIND.noun)
    tensors, metadata = _checked_content(attribution, path, kept=kept)
    return write_tensors(path, tensors, metadata, noun=KIND.noun)


def record_bytes(attribution: Record, *, kept: bool = True) -> bytes:
    """The bytes of the file that :func:`save_record` writes.

    Raises:
        InputError: a reader would refuse them.
    """
    path = Path("bytes")
    tensors, metadata = _checked_content(attribution, path, kept=kept)
    return b"".join(part() for part in tensor_parts(path, tensors, metadata, noun=KIND.noun))


def _checked_content(
    attribution: Record, path: Path, *, kept: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file that a reader takes."""
    check = Check(path, KIND.noun, writing=True)
    attribution = attribution if kept else without_kept(attribution)
    header, tensors = content(attribution, check)
    large = ("detail.", "self.")
    cells = sum(m.numel() for name, m in tensors.items() if any(part in name for part in large))
    if cells > MAX_KEPT_CELLS:
        raise InputError(
            f"What was kept separately has {cells} cells, and a file may hold {MAX_KEPT_CELLS}. "
            "Select a part of it, or save(path, kept=False)."
        )
    text, found = check.dumped(header)
    check_header(found, check)
    check_shapes({name: TensorSpec.of(maps) for name, maps in tensors.items()}, found, check)
    for name, maps in tensors.items():
        check_finite(name, maps, check)
    return tensors, KIND.metadata(text)


def content(attribution: Record, check: Check) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a file."""
    header, tensors = _part(attribution, "", check)
    header["image_size"] = list(attribution.image_size)
    negative = attribution.negative_attribution
    if negative is not None:
        check(
            _is_part(negative, attribution),
            "its negative prompt has texts, a mask or self-attention too",
        )
        header["negative"], more = _part(negative, "negative.", check)
        tensors.update(more)
    if attribution.vocabulary:
        header["vocabulary"] = []
    for i, (name, other) in enumerate(attribution.vocabulary.items()):
        part, more = _part(other, f"vocabulary.{i}.", check)
        right = _is_part(other, attribution) and other.negative_attribution is None
        check(
            right, f"{str(name)[:80]!r} of its vocabulary has a vocabulary or negative prompt too"
        )
        header["vocabulary"].append(part if name == part["prompt"] else {**part, "text": name})
        tensors.update(more)
    if attribution.switched:
        header["switched"] = []
    for i, other in enumerate(attribution.switched):
        part, more = _part(other, f"switched.{i}.", check)
        # A negative prompt of their own has no place in a file.
        check(_is_part(other, attribution), "the steps with another prompt have a vocabulary too")
        header["switched"].append(part)
        tensors.update(more)
    if attribution.self_grids:
        header["self"] = [
            {"size": list(grid.size), "additions": grid.additions, "sites": list(grid.sites)}
            for grid in attribution.self_grids
        ]
        tensors |= {f"self.{i}": grid.sums for i, grid in enumerate(attribution.self_grids)}
    if attribution.image is not None:
        tensors["image"] = torch.from_numpy(np.array(attribution.image.convert("RGB")))
    if attribution.mask is not None:
        tensors["mask"] = attribution.mask.weights
    return header, tensors


def _is_part(other: Record, whole: Record) -> bool:
    """Whether a file has a place for all of an attribution within another."""
    masked = other.mask is not None and other.mask is not whole.mask
    return not (other.vocabulary or other.self_grids or masked)


def without_kept(attribution: AnyRecord) -> AnyRecord:
    """The attribution without single steps, layers and heads, and without self-attention."""
    negative = attribution.negative_attribution
    if negative is not None:
        negative = replace(negative, kept=None)
    texts = {text: replace(other, kept=None) for text, other in attribution.vocabulary.items()}
    return replace(
        attribution,
        kept=None,
        negative_attribution=negative,
        self_grids=(),
        vocabulary=texts,
        switched=(),
    )


def _part(
    attribution: Record, prefix: str, check: Check
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The fields and tensors that are written of the prompt or of the negative prompt."""
    # JSON would make texts of other names.
    named = all(isinstance(name, str) for name in attribution.run)
    check(named, "a fact about its run has a name that is not a text")
    header: dict[str, Any] = {
        "prompt": attribution.prompt.text,
        "tokens": token_fields(attribution.prompt),
        **further_fields(attribution.prompt),
        "grids": [
            {
                "additions": grid.additions,
                "sites": list(grid.sites),
                "weight": grid.weight,
                **_stream_field(grid),
                **({} if grid.squares is None else {"squares": True}),
            }
            for grid in attribution.grids
        ],
        "run": attribution.run,
    }
    tensors = {f"{prefix}grid.{i}": grid.maps for i, grid in enumerate(attribution.grids)}
    for i, grid in enumerate(attribution.grids):
        if grid.squares is not None:
            tensors[f"{prefix}squares.{i}"] = grid.squares
    kept = attribution.kept
    if kept is not None:
        header["kept"] = {
            "axes": list(kept.axes),
            "timesteps": list(kept.timesteps),
            **({"numbers": list(kept.numbers)} if kept.numbers else {}),
            "details": [
                {
                    "additions": list(detail.additions),
                    "sites": list(detail.sites),
                    **_stream_field(detail),
                }
                for detail in kept.details
            ],
        }
        tensors |= {f"{prefix}detail.{i}": detail.maps for i, detail in enumerate(kept.details)}
    return header, tensors


def _stream_field(group: Grid | MapStack) -> dict[str, str]:
    """The stream of some maps, where their denoiser has several."""
    return {"stream": group.stream} if group.stream else {}


def load_record(path: Path, cls: type[AnyRecord], content: bytes | None = None) -> AnyRecord:
    """Read and check what :func:`save_record` wrote, as a record of the class ``cls``.

    Args:
        path: of the file.
        cls: the class.
        content: the bytes, where they are not in a file; ``path`` is their name in errors then.

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid attribution.
    """
    check = Check(path, KIND.noun)
    with open_tensors(path, KIND.noun, content) as file:
        header = KIND.header(file)
        check_header(header, check)
        check_shapes(file.specs, header, check)
        names = tensor_names(header) + [name for name in ("image", "mask") if name in file.specs]
        tensors = {name: file.finite(name, check) for name in names}
    try:
        return build_record(header, tensors, cls)
    except AttributionFileError:
        raise
    except RDAAMError as error:
        raise AttributionFileError(f"{path} is not a valid attribution: {error}") from error


def build_record(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], cls: type[AnyRecord]
) -> AnyRecord:
    """The record of a header and tensors that have been checked."""
    height, width = header["image_size"]

    def part(fields: Mapping[str, Any], prefix: str) -> AnyRecord:
        built = _build_part(fields, (height, width), tensors, prefix, cls)
        return replace(built, left_out=_left_out(prefix))

    attribution = part(header, "")
    pixels, weights, negative = tensors.get("image"), tensors.get("mask"), header.get("negative")
    image = None if pixels is None else Image.fromarray(pixels.numpy())
    return replace(
        attribution,
        image=image,
        vocabulary={
            name_of(fields): replace(part(fields, f"vocabulary.{i}."), image=image)
            for i, fields in enumerate(header.get("vocabulary") or ())
        },
        switched=tuple(
            replace(part(fields, f"switched.{i}."), image=image)
            for i, fields in enumerate(header.get("switched") or ())
        ),
        mask=None if weights is None else Mask(weights),
        self_grids=tuple(
            SelfGrid(
                tensors[f"self.{i}"], grid["additions"], tuple(grid["size"]), tuple(grid["sites"])
            )
            for i, grid in enumerate(header.get("self") or ())
        ),
        negative_attribution=None if negative is None else part(negative, "negative."),
    )


def _left_out(prefix: str) -> dict[str, Absence]:
    """Why a file's record lacks parts.

    Texts within the prompt's record have no self-attention, and of these only the negative prompt
    has queries.
    """
    own = {QUERIES: QUERIES_OF_A_FILE}
    if prefix:
        own[SELF_ATTENTION] = OF_THE_PROMPT_ONLY
    if prefix.startswith("vocabulary."):
        own[QUERIES] = OF_THE_PROMPT_ONLY
    return and_left_out(own, NOT_IN_THE_FILE, (*MAPS, SELF_ATTENTION))


def _build_part(
    part: Mapping[str, Any],
    size: tuple[int, int],
    tensors: Mapping[str, Tensor],
    prefix: str,
    cls: type[AnyRecord],
) -> AnyRecord:
    grids = tuple(
        Grid(
            tensors[f"{prefix}grid.{i}"],
            grid["additions"],
            tuple(grid["sites"]),
            float(grid.get("weight", 1.0)),
            grid.get("stream", ""),
            tensors[f"{prefix}squares.{i}"] if grid.get("squares") else None,
        )
        for i, grid in enumerate(part["grids"])
    )
    kept = None if part.get("kept") is None else _build_kept(part["kept"], tensors, prefix)
    return cls(build_prompt(part), grids, size, run=part["run"], kept=kept)


def _build_kept(kept: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str) -> KeptMaps:
    details = tuple(
        MapStack(
            tensors[f"{prefix}detail.{i}"],
            tuple(detail["additions"]),
            tuple(detail["sites"]),
            detail.get("stream", ""),
        )
        for i, detail in enumerate(kept["details"])
    )
    timesteps = tuple(float(timestep) for timestep in kept["timesteps"])
    numbers = tuple(kept.get("numbers") or ())
    return KeptMaps(tuple(kept["axes"]), details, timesteps, numbers)
