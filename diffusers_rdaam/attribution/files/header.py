"""The header of an attribution file, checked field by field before a tensor is read.

The same checks are made before a file is written, so that what is written can be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from diffusers_rdaam.attribution.grid import is_weight
from diffusers_rdaam.attribution.prompt_fields import check_prompt
from diffusers_rdaam.files.fields import (
    Check,
    check_image_size,
    is_count,
    is_fact,
    is_list_of_texts,
    is_number,
    is_size,
    is_text,
    shown,
)
from diffusers_rdaam.files.tensor_file import FileKind, TensorSpec

FORMAT = "diffusers_rdaam.attribution"
# Version 2 names the text encoders of tokens, and the columns of the embedding that were kept.
VERSION = 2
KIND = FileKind(
    FORMAT,
    str(VERSION),
    "attribution",
    "attribution",
    "not an attribution of diffusers_rdaam.",
    earlier=("1",),
)
MAX_GRID_SIDE = 2048
MAX_GRIDS = 64
MAX_CELLS = 2**28  # of all grids together: 1 GiB
MAX_KEPT_CELLS = 2**33  # of all that was kept separately: 16 GiB in half precision
MAX_DETAILS = 4096
MAX_STEPS = 100_000
MAX_TEXTS = 1000  # of a vocabulary
MAX_HEADS = 1024
MAX_TIMESTEP = 1e12
# Of all matrices that enlarge a grid to the image: a word of the largest images takes seconds.
MAX_ENLARGEMENT = 2**27

# "text" names a text of a vocabulary; "second" is the further text of version 1.
_PART_FIELDS = ("prompt", "tokens", "further", "second", "grids", "run", "kept", "text")
_FIELDS = ("image_size", "negative", "vocabulary", "switched", "self")

Specs = Mapping[str, TensorSpec]


def check_header(header: Any, check: Check) -> None:
    """Check every field."""
    check(isinstance(header, dict), "its header is not an object")
    _check_names(header, {*_FIELDS, *_PART_FIELDS}, check)
    check_image_size(header.get("image_size"), check)
    _check_part(header, check)
    negative = header.get("negative")
    if negative is not None:
        check(isinstance(negative, dict), "its negative prompt is not an object")
        _check_part(negative, check)
    vocabulary = header.get("vocabulary")
    if vocabulary is not None:
        _check_vocabulary(vocabulary, check)
    switched = header.get("switched")
    right = switched is None or (isinstance(switched, list) and len(switched) <= MAX_TEXTS)
    check(right, "its steps with another prompt are not a list")
    for part in switched or ():
        check(isinstance(part, dict), "its steps with another prompt are not objects")
        check(part.get("kept") is not None, "its steps with another prompt were not kept")
        _check_part(part, check)
    self_attention = header.get("self")
    right = self_attention is None or (
        isinstance(self_attention, list) and 1 <= len(self_attention) <= MAX_GRIDS
    )
    check(right, "its self-attention is not a list of grids")
    for grid in self_attention or ():
        right = _is_grid(grid) and is_size(grid.get("size"), MAX_GRID_SIDE)
        check(right, f"{shown(grid)} is not a grid of self-attention")


def _check_names(part: Mapping[str, Any], known: set[str], check: Check) -> None:
    """An unknown field may change what the others mean, so it is not passed over."""
    unknown = sorted(set(part) - known)
    check(
        not unknown,
        f"its field {shown(', '.join(unknown))!r} is not known to this release, which reads up to "
        f"version {VERSION} of the format; load it with the release that wrote it",
    )


def _check_vocabulary(vocabulary: Any, check: Check) -> None:
    check(isinstance(vocabulary, list), "its vocabulary is not a list")
    over = f"its vocabulary has {len(vocabulary)} texts, over {MAX_TEXTS}"
    check(len(vocabulary) <= MAX_TEXTS, over)
    texts = set()
    for part in vocabulary:
        named = isinstance(part, dict) and is_text(name_of(part))
        check(named, "a text of its vocabulary is not an object with a prompt")
        check(name_of(part) not in texts, f"{shown(name_of(part))!r} is twice in its vocabulary")
        texts.add(name_of(part))
        _check_part(part, check)


def name_of(part: Mapping[str, Any]) -> Any:
    """The text by which a vocabulary has a part: its prompt, where it is not named."""
    return part.get("text", part.get("prompt"))


def _check_part(part: Mapping[str, Any], check: Check) -> None:
    """The prompt's or the negative prompt's."""
    _check_names(part, {*_FIELDS, *_PART_FIELDS}, check)
    check_prompt(part, check)
    grids: Any = part.get("grids")
    check(isinstance(grids, list) and bool(grids), "it has no grids")
    check(len(grids) <= MAX_GRIDS, f"it has {len(grids)} grids, over {MAX_GRIDS}")
    for grid in grids:
        check(_is_grid(grid), f"{shown(grid)} is not a grid")
    run: Any = part.get("run")
    check(isinstance(run, dict), "its facts about the run are not a flat object")
    for name, value in run.items():
        flat = is_text(name) and not isinstance(value, (list, dict))
        check(flat, "its facts about the run are not a flat object")
        check(
            is_fact(value), f"the fact {shown(name)!r} about its run is not a text or finite number"
        )
    kept = part.get("kept")
    if kept is not None:
        _check_kept(kept, check)


def _check_kept(kept: Any, check: Check) -> None:
    check(isinstance(kept, dict), "what was kept separately is not an object")
    axes = kept.get("axes")
    known = isinstance(axes, list) and all(axis in ("steps", "layers", "heads") for axis in axes)
    check(known, f"{shown(axes)} are not axes")
    timesteps: Any = kept.get("timesteps")
    right = isinstance(timesteps, list) and len(timesteps) <= MAX_STEPS
    right = right and all(is_number(value, MAX_TIMESTEP) for value in timesteps)
    check(right, "its timesteps are not a list of numbers")
    numbers: Any = kept.get("numbers", [])
    right = isinstance(numbers, list) and len(numbers) <= MAX_STEPS
    right = right and all(is_count(number) and number <= MAX_STEPS for number in numbers)
    check(right, "the numbers of its steps are not a list of numbers")
    details: Any = kept.get("details")
    right = isinstance(details, list) and bool(details)
    check(right, "what was kept separately has no details")
    over = f"what was kept separately has {len(details)} details, over {MAX_DETAILS}"
    check(len(details) <= MAX_DETAILS, over)
    for detail in details:
        check(_is_detail(detail), f"{shown(detail)} is not a detail")


def _is_detail(detail: Any) -> bool:
    if not isinstance(detail, dict):
        return False
    additions: Any = detail.get("additions")
    right = isinstance(additions, list) and 1 <= len(additions) <= MAX_STEPS
    right = right and isinstance(detail.get("stream", ""), str)
    return right and all(map(is_count, additions)) and is_list_of_texts(detail.get("sites"))


def _is_grid(grid: Any) -> bool:
    return (
        isinstance(grid, dict)
        and is_count(grid.get("additions"))
        and grid["additions"] >= 1
        and is_list_of_texts(grid.get("sites"))
        and isinstance(grid.get("stream", ""), str)
        and isinstance(grid.get("squares", False), bool)
        and is_number(grid.get("weight", 1.0))
        and is_weight(grid.get("weight", 1.0))
    )


def check_shapes(specs: Specs, header: Mapping[str, Any], check: Check) -> None:
    """Check types and shapes from the file's own table, before any tensor is read.

    Args:
        specs: what the table says of each tensor, by name.
        header: checked.
        check: what raises.
    """
    for name in tensor_names(header):
        check(name in specs, f"the tensor {name!r} is missing")
    cells = kept_cells = 0
    for prefix, part in parts_of(header):
        cells += _check_grids(specs, part, prefix, check)
        kept_cells += _check_details(specs, part, prefix, check)
    check(cells <= MAX_CELLS, f"its grids have {cells} cells, over {MAX_CELLS}")
    kept_cells += _check_self(specs, header, check)
    over = f"what was kept separately has {kept_cells} cells, over {MAX_KEPT_CELLS}"
    check(kept_cells <= MAX_KEPT_CELLS, over)
    _check_enlargement(specs, header, check)
    _check_plane(specs, "image", [*header["image_size"], 3], "U8", check)
    _check_plane(specs, "mask", header["image_size"], "F32", check)


def parts_of(header: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The prompt's part, the negative prompt's, those of the vocabulary; and their prefixes."""
    parts = [("", header)]
    if header.get("negative") is not None:
        parts.append(("negative.", header["negative"]))
    return parts + [
        (f"{name}.{i}.", part)
        for name in ("vocabulary", "switched")
        for i, part in enumerate(header.get(name) or ())
    ]


def tensor_names(header: Mapping[str, Any]) -> list[str]:
    """The tensors that the header speaks of; image and mask are by the side."""
    names = []
    for prefix, part in parts_of(header):
        details = (part.get("kept") or {"details": []})["details"]
        names += [f"{prefix}grid.{i}" for i in range(len(part["grids"]))]
        names += [f"{prefix}squares.{i}" for i, grid in enumerate(part["grids"]) if _squared(grid)]
        names += [f"{prefix}detail.{i}" for i in range(len(details))]
    return names + [f"self.{i}" for i in range(len(header.get("self") or ()))]


def _squared(grid: Mapping[str, Any]) -> bool:
    """Whether a grid of a file has mean squares."""
    return grid.get("squares", False)


def _check_grids(specs: Specs, part: Mapping[str, Any], prefix: str, check: Check) -> int:
    tokens = len(part["tokens"])
    cells = 0
    for i, grid in enumerate(part["grids"]):
        found = specs[f"{prefix}grid.{i}"]
        shape = found.shape
        if _squared(grid):
            squares = specs[f"{prefix}squares.{i}"]
            right = squares.shape == shape and squares.dtype == "F32"
            check(right, f"{prefix}squares {i} has shape {squares.shape} and type {squares.dtype}")
            cells += squares.cells
        right = len(shape) == 3 and shape[0] == tokens
        right = right and all(1 <= side <= MAX_GRID_SIDE for side in shape[1:])
        check(right, f"{prefix}grid {i} has shape {shape} for {tokens} tokens")
        check(found.dtype == "F32", f"{prefix}grid {i} has type {found.dtype}{_wanted(check)}")
        cells += found.cells
    return cells


def _wanted(check: Check, kinds: str = "float32") -> str:
    return f", and a file has {kinds}" if check.writing else ""


def _check_details(specs: Specs, part: Mapping[str, Any], prefix: str, check: Check) -> int:
    tokens = len(part["tokens"])
    cells = 0
    for i, detail in enumerate((part.get("kept") or {"details": []})["details"]):
        found = specs[f"{prefix}detail.{i}"]
        shape, kind = found.shape, found.dtype
        steps = len(detail["additions"])
        right = len(shape) == 5 and shape[0] == steps and shape[2] == tokens
        right = right and 1 <= shape[1] <= MAX_HEADS
        right = right and all(1 <= side <= MAX_GRID_SIDE for side in shape[3:])
        wanted = f"{steps} steps and {tokens} tokens"
        check(right, f"{prefix}detail {i} has shape {shape} for {wanted}")
        kinds = _wanted(check, "float16 or float32")
        check(kind in ("F16", "F32"), f"{prefix}detail {i} has type {kind}{kinds}")
        cells += found.cells
    return cells


def _check_self(specs: Specs, header: Mapping[str, Any], check: Check) -> int:
    cells = 0
    for i, grid in enumerate(header.get("self") or ()):
        shape, kind = specs[f"self.{i}"].shape, specs[f"self.{i}"].dtype
        positions = math.prod(grid["size"])
        wanted = f"{positions} positions"
        check(shape == [positions] * 2, f"self {i} has shape {shape} for {wanted}")
        kinds = _wanted(check, "float16 or float32")
        check(kind in ("F16", "F32"), f"self {i} has type {kind}{kinds}")
        cells += math.prod(shape)
    return cells


def _check_enlargement(specs: Specs, header: Mapping[str, Any], check: Check) -> None:
    """Bound the cost of a question: a matrix for each side of each grid, as long as the image's."""
    height, width = header["image_size"]
    rows, columns = set(), set()
    for prefix, part in parts_of(header):
        for i in range(len(part["grids"])):
            _, row, column = specs[f"{prefix}grid.{i}"].shape
            rows.add(row)
            columns.add(column)
    for grid in header.get("self") or ():
        rows.add(grid["size"][0])
        columns.add(grid["size"][1])
    cells = height * sum(rows) + width * sum(columns)
    over = f"enlarging its grids to {width} by {height} pixels takes {cells} numbers"
    check(cells <= MAX_ENLARGEMENT, f"{over}, over {MAX_ENLARGEMENT}")


def _check_plane(specs: Specs, name: str, wanted: list[int], kind: str, check: Check) -> None:
    if name in specs:
        found = specs[name]
        check(found.shape == wanted, f"its {name} has shape {found.shape}")
        check(found.dtype == kind, f"its {name} has type {found.dtype}")
