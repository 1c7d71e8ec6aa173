"""Attribution files: safetensors with a JSON header. A file from a stranger is bad input.

Every field is checked before it is used and every size is bounded; nothing is ever unpickled, and
the image is raw pixels, so that no decoder meets a stranger's bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusers_rdaam.attribution.attribution import Attribution, Grid
from diffusers_rdaam.attribution.detail import Detail, Kept
from diffusers_rdaam.attribution.file_header import (
    FORMAT,
    MAX_KEPT_CELLS,
    VERSION,
    check_shapes,
    read_header,
    tensor_names,
)
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.errors import AttributionFileError, InputError, RDAAMError
from diffusers_rdaam.geometry.region import Mask

# The names that safetensors has for types, widest first: a reader may want each aligned.
_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8"}


def save_attribution(attribution: Attribution, path: Path, *, kept: bool = True) -> Path:
    """Write ``attribution`` to ``path``, whole or not at all.

    Args:
        kept: whether to write what was kept apart by step, layer and head, and self-attention.

    Raises:
        InputError: the folder does not exist or may not be written, or more was kept than a file
            may hold.
    """
    attribution = attribution if kept else _without_kept(attribution)
    header, tensors = _part(attribution, "")
    header["image_size"] = list(attribution.image_size)
    negative = attribution.negative_attribution
    if negative is not None:
        header["negative"], more = _part(negative, "negative.")
        tensors.update(more)
    if attribution.vocabulary:
        header["vocabulary"] = []
    for i, other in enumerate(attribution.vocabulary.values()):
        part, more = _part(other, f"vocabulary.{i}.")
        header["vocabulary"].append(part)
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
    large = ("detail.", "self.")
    cells = sum(m.numel() for name, m in tensors.items() if any(part in name for part in large))
    if cells > MAX_KEPT_CELLS:
        raise InputError(
            f"What was kept apart has {cells} cells, and a file may hold {MAX_KEPT_CELLS}. Select "
            "a part of it, or save(path, kept=False)."
        )
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "attribution": json.dumps(header, ensure_ascii=False),
    }
    try:
        temporary = path.with_name(path.name + ".part")
        try:
            _write(temporary, tensors, metadata)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    # ValueError: a path without a name, and text that is no Unicode.
    except (OSError, ValueError) as error:
        raise InputError(
            f"The attribution could not be written to {path}: {error}. Give a path in a folder "
            "that exists and may be written."
        ) from error
    return path


def _without_kept(attribution: Attribution) -> Attribution:
    negative = attribution.negative_attribution
    if negative is not None:
        negative = replace(negative, kept=None)
    return replace(attribution, kept=None, negative_attribution=negative, self_grids=())


def _part(attribution: Attribution, prefix: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is written of the prompt or of the negative prompt: fields and tensors."""
    header: dict[str, Any] = {
        "prompt": attribution.prompt.text,
        "tokens": [
            [token.text, token.kind, token.start, token.end] for token in attribution.prompt.tokens
        ],
        "grids": [
            {"additions": grid.additions, "sites": list(grid.sites), "weight": grid.weight}
            for grid in attribution.grids
        ],
        "run": attribution.run,
    }
    tensors = {f"{prefix}grid.{i}": grid.maps for i, grid in enumerate(attribution.grids)}
    kept = attribution.kept
    if kept is not None:
        header["kept"] = {
            "axes": list(kept.axes),
            "timesteps": list(kept.timesteps),
            "details": [
                {"additions": list(detail.additions), "sites": list(detail.sites)}
                for detail in kept.details
            ],
        }
        tensors |= {f"{prefix}detail.{i}": detail.maps for i, detail in enumerate(kept.details)}
    return header, tensors


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write safetensors, one tensor at a time.

    Not the library's ``save``, which needs twice the file in memory, nor its ``save_file``, which
    makes files that only their owner may read; both refuse tensors that share memory.
    """
    order = list(_TYPES)
    names = sorted(tensors, key=lambda name: order.index(tensors[name].dtype))
    table: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        maps = tensors[name]
        start, end = end, end + maps.numel() * maps.element_size()
        shape = list(maps.shape)
        table[name] = {"dtype": _TYPES[maps.dtype], "shape": shape, "data_offsets": [start, end]}
    head = json.dumps(table, ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name in names:
            array = tensors[name].detach().cpu().numpy()
            # No copy where the machine's own order of bytes is the file's.
            ordered = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(ordered.reshape(-1).view(np.uint8).data)


def load_attribution(path: Path) -> Attribution:
    """Read and check what :func:`save_attribution` wrote.

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid attribution.
    """
    try:
        if not path.is_file():
            raise AttributionFileError(f"There is no attribution file at {path}.")
        with safe_open(path, framework="pt") as file:
            header = read_header(file.metadata(), path)
            wanted = tensor_names(header)
            present = set(file.keys())
            for name in wanted:
                if name not in present:
                    raise AttributionFileError(
                        f"{path} is not a valid attribution: the tensor {name!r} is missing."
                    )
            check_shapes({name: file.get_slice(name) for name in present}, header, path)
            wanted += [name for name in ("image", "mask") if name in present]
            # Copies: what is read is mapped, and would change or crash when the file does.
            tensors = {name: file.get_tensor(name).clone() for name in wanted}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise AttributionFileError(
            f"{path} is not a whole safetensors file ({error}). It may be cut off; save it again."
        ) from error
    try:
        return _build(header, tensors)
    except AttributionFileError:
        raise
    except RDAAMError as error:
        raise AttributionFileError(f"{path} is not a valid attribution: {error}") from error


def _build(header: dict[str, Any], tensors: dict[str, Tensor]) -> Attribution:
    for name, maps in tensors.items():
        if maps.is_floating_point() and not bool(torch.isfinite(maps).all()):
            raise InputError(f"{name.replace('.', ' ')} has values that are not finite")
    height, width = header["image_size"]
    attribution = _build_part(header, (height, width), tensors, "")
    pixels, weights, negative = tensors.get("image"), tensors.get("mask"), header.get("negative")
    image = None if pixels is None else Image.fromarray(pixels.numpy())
    return replace(
        attribution,
        image=image,
        vocabulary={
            part["prompt"]: replace(
                _build_part(part, (height, width), tensors, f"vocabulary.{i}."), image=image
            )
            for i, part in enumerate(header.get("vocabulary") or ())
        },
        mask=None if weights is None else Mask(weights),
        self_grids=tuple(
            SelfGrid(
                tensors[f"self.{i}"], grid["additions"], tuple(grid["size"]), tuple(grid["sites"])
            )
            for i, grid in enumerate(header.get("self") or ())
        ),
        negative_attribution=None
        if negative is None
        else _build_part(negative, (height, width), tensors, "negative."),
    )


def _build_part(
    part: dict[str, Any], size: tuple[int, int], tensors: dict[str, Tensor], prefix: str
) -> Attribution:
    grids = tuple(
        Grid(
            tensors[f"{prefix}grid.{i}"],
            grid["additions"],
            tuple(grid["sites"]),
            float(grid.get("weight", 1.0)),
        )
        for i, grid in enumerate(part["grids"])
    )
    tokens = tuple(Token(i, *token) for i, token in enumerate(part["tokens"]))
    kept = None if part.get("kept") is None else _build_kept(part["kept"], tensors, prefix)
    return Attribution(Prompt(part["prompt"], tokens), grids, size, run=part["run"], kept=kept)


def _build_kept(kept: dict[str, Any], tensors: dict[str, Tensor], prefix: str) -> Kept:
    details = tuple(
        Detail(tensors[f"{prefix}detail.{i}"], tuple(detail["additions"]), tuple(detail["sites"]))
        for i, detail in enumerate(kept["details"])
    )
    timesteps = tuple(float(timestep) for timestep in kept["timesteps"])
    return Kept(tuple(kept["axes"]), details, timesteps)
