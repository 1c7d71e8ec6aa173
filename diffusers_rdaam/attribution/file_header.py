"""What an attribution file says of itself, checked field by field before a tensor is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from diffusers_rdaam.attribution.grid import is_weight
from diffusers_rdaam.errors import AttributionFileError

FORMAT = "diffusers_rdaam.attribution"
VERSION = 1
MAX_SIDE = 16384
MAX_GRID_SIDE = 2048
MAX_TOKENS = 8192
MAX_GRIDS = 64
MAX_CELLS = 2**28  # of all grids together: 1 GiB
MAX_KEPT_CELLS = 2**33  # of all that was kept apart: 16 GiB in half precision
MAX_DETAILS = 4096
MAX_STEPS = 100_000
MAX_TEXTS = 1000  # of a vocabulary
MAX_HEADS = 1024
MAX_TIMESTEP = 1e12
MAX_PROMPT = 1_000_000
MAX_HEADER = 16_000_000


def read_header(metadata: dict[str, str] | None, path: Path) -> dict[str, Any]:
    if not metadata or metadata.get("format") != FORMAT:
        raise AttributionFileError(
            f"{path} is a safetensors file, but not an attribution of diffusers_rdaam."
        )
    version = metadata.get("version", "")
    if version != str(VERSION):
        raise AttributionFileError(
            f"{path} has format version {version[:20]!r}; this release reads version {VERSION}. "
            "Load it with the release that wrote it, or generate again."
        )
    text = metadata.get("attribution", "")
    _expect(len(text) <= MAX_HEADER, path, f"its header is over {MAX_HEADER} characters")
    try:
        header = json.loads(text)
        _check_header(header, path)
    except AttributionFileError:
        raise
    # ValueError: no JSON, or a number of thousands of digits.
    except (ValueError, RecursionError):
        raise AttributionFileError(
            f"{path} is not a valid attribution: its header is no JSON."
        ) from None
    return header


def _is_size(value: Any, limit: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and 1 <= side <= limit for side in value)
    )


def _check_header(header: Any, path: Path) -> None:
    _expect(isinstance(header, dict), path, "its header is no object")
    _expect(_is_size(header.get("image_size"), MAX_SIDE), path, "its image size is no size")
    _check_part(header, path)
    negative = header.get("negative")
    if negative is not None:
        _expect(isinstance(negative, dict), path, "its negative prompt is no object")
        _check_part(negative, path)
    vocabulary = header.get("vocabulary")
    if vocabulary is not None:
        right = isinstance(vocabulary, list) and len(vocabulary) <= MAX_TEXTS
        _expect(right, path, "its vocabulary is no list")
        for part in vocabulary:
            named = isinstance(part, dict) and isinstance(part.get("prompt"), str)
            _expect(named, path, "a text of its vocabulary is no object with a prompt")
            _check_part(part, path)
    own = header.get("self")
    right = own is None or (isinstance(own, list) and 1 <= len(own) <= MAX_GRIDS)
    _expect(right, path, "its self-attention is no list of grids")
    for grid in own or ():
        right = _is_grid(grid) and _is_size(grid.get("size"), MAX_GRID_SIDE)
        _expect(right, path, f"{str(grid)[:80]} is no grid of self-attention")


def _check_part(part: dict[str, Any], path: Path) -> None:
    """The prompt's or the negative prompt's."""
    prompt = part.get("prompt", False)
    _expect(prompt is None or _is_text(prompt), path, "its prompt is no text")
    _expect(len(prompt or "") <= MAX_PROMPT, path, f"its prompt is over {MAX_PROMPT} characters")
    tokens: Any = part.get("tokens")
    _expect(isinstance(tokens, list) and 1 <= len(tokens) <= MAX_TOKENS, path, "it has no tokens")
    for token in tokens:
        _expect(_is_token(token), path, f"{str(token)[:80]} is no token")
    grids: Any = part.get("grids")
    _expect(isinstance(grids, list) and 1 <= len(grids) <= MAX_GRIDS, path, "it has no grids")
    for grid in grids:
        _expect(_is_grid(grid), path, f"{str(grid)[:80]} is no grid")
    run = part.get("run")
    _expect(_is_run(run), path, "its facts about the run are no flat object")
    kept = part.get("kept")
    if kept is not None:
        _check_kept(kept, path)


def _check_kept(kept: Any, path: Path) -> None:
    _expect(isinstance(kept, dict), path, "what was kept apart is no object")
    axes = kept.get("axes")
    known = isinstance(axes, list) and all(axis in ("steps", "layers", "heads") for axis in axes)
    _expect(known, path, f"{str(axes)[:80]} are no axes")
    timesteps: Any = kept.get("timesteps")
    right = isinstance(timesteps, list) and len(timesteps) <= MAX_STEPS
    right = right and all(_is_number(value, MAX_TIMESTEP) for value in timesteps)
    _expect(right, path, "its timesteps are no list of numbers")
    details: Any = kept.get("details")
    right = isinstance(details, list) and 1 <= len(details) <= MAX_DETAILS
    _expect(right, path, "what was kept apart has no details")
    for detail in details:
        _expect(_is_detail(detail), path, f"{str(detail)[:80]} is no detail")


def _is_number(value: Any, limit: float) -> bool:
    return type(value) in (int, float) and -limit <= value <= limit


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**53


def _is_detail(detail: Any) -> bool:
    if not isinstance(detail, dict):
        return False
    additions: Any = detail.get("additions")
    right = isinstance(additions, list) and 1 <= len(additions) <= MAX_STEPS
    return right and all(map(_is_count, additions)) and _is_list_of_texts(detail.get("sites"))


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text(value: Any) -> bool:
    """Whether it is a string of whole characters: JSON can write half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _is_token(token: Any) -> bool:
    kinds = ("text", "start", "end", "padding", "unknown")
    if not (isinstance(token, list) and len(token) == 4):
        return False
    text, kind, start, end = token
    # JSON has true and false where Python would take them for 1 and 0.
    spanned = type(start) is type(end) is (int if kind == "text" else type(None))
    return _is_text(text) and isinstance(kind, str) and kind in kinds and spanned


def _is_grid(grid: Any) -> bool:
    return (
        isinstance(grid, dict)
        and _is_count(grid.get("additions"))
        and grid["additions"] >= 1
        and _is_list_of_texts(grid.get("sites"))
        and _is_number(grid.get("weight", 1.0), math.inf)
        and is_weight(grid.get("weight", 1.0))
    )


def _is_run(run: Any) -> bool:
    return isinstance(run, dict) and all(
        value is None or isinstance(value, (str, int, float, bool)) for value in run.values()
    )


def check_shapes(slices: dict[str, Any], header: dict[str, Any], path: Path) -> None:
    """Check types and shapes from the file's own table, before any tensor is read.

    Args:
        slices: what safetensors says of each tensor, by name.
    """
    cells = kept_cells = 0
    for prefix, part in parts_of(header):
        cells += _check_grids(slices, part, prefix, path)
        kept_cells += _check_details(slices, part, prefix, path)
    _expect(cells <= MAX_CELLS, path, f"its grids have {cells} cells, over {MAX_CELLS}")
    kept_cells += _check_self(slices, header, path)
    over = f"what was kept apart has {kept_cells} cells, over {MAX_KEPT_CELLS}"
    _expect(kept_cells <= MAX_KEPT_CELLS, path, over)
    _check_plane(slices, "image", [*header["image_size"], 3], "U8", path)
    _check_plane(slices, "mask", header["image_size"], "F32", path)


def parts_of(header: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The prompt's part, the negative prompt's, those of the vocabulary; and their prefixes."""
    parts = [("", header)]
    if header.get("negative") is not None:
        parts.append(("negative.", header["negative"]))
    return parts + [
        (f"vocabulary.{i}.", part) for i, part in enumerate(header.get("vocabulary") or ())
    ]


def tensor_names(header: dict[str, Any]) -> list[str]:
    """The tensors that the header speaks of; image and mask are by the side."""
    names = []
    for prefix, part in parts_of(header):
        details = (part.get("kept") or {"details": []})["details"]
        names += [f"{prefix}grid.{i}" for i in range(len(part["grids"]))]
        names += [f"{prefix}detail.{i}" for i in range(len(details))]
    return names + [f"self.{i}" for i in range(len(header.get("self") or ()))]


def _check_grids(slices: dict[str, Any], part: dict[str, Any], prefix: str, path: Path) -> int:
    tokens = len(part["tokens"])
    cells = 0
    for i in range(len(part["grids"])):
        found = slices[f"{prefix}grid.{i}"]
        shape = found.get_shape()
        right = len(shape) == 3 and shape[0] == tokens
        right = right and all(1 <= side <= MAX_GRID_SIDE for side in shape[1:])
        _expect(right, path, f"{prefix}grid {i} has shape {shape} for {tokens} tokens")
        _expect(found.get_dtype() == "F32", path, f"{prefix}grid {i} has type {found.get_dtype()}")
        cells += math.prod(shape)
    return cells


def _check_details(slices: dict[str, Any], part: dict[str, Any], prefix: str, path: Path) -> int:
    tokens = len(part["tokens"])
    cells = 0
    for i, detail in enumerate((part.get("kept") or {"details": []})["details"]):
        found = slices[f"{prefix}detail.{i}"]
        shape, kind = found.get_shape(), found.get_dtype()
        steps = len(detail["additions"])
        right = len(shape) == 5 and shape[0] == steps and shape[2] == tokens
        right = right and 1 <= shape[1] <= MAX_HEADS
        right = right and all(1 <= side <= MAX_GRID_SIDE for side in shape[3:])
        wanted = f"{steps} steps and {tokens} tokens"
        _expect(right, path, f"{prefix}detail {i} has shape {shape} for {wanted}")
        _expect(kind in ("F16", "F32"), path, f"{prefix}detail {i} has type {kind}")
        cells += math.prod(shape)
    return cells


def _check_self(slices: dict[str, Any], header: dict[str, Any], path: Path) -> int:
    cells = 0
    for i, grid in enumerate(header.get("self") or ()):
        shape, kind = slices[f"self.{i}"].get_shape(), slices[f"self.{i}"].get_dtype()
        positions = math.prod(grid["size"])
        wanted = f"{positions} positions"
        _expect(shape == [positions] * 2, path, f"self {i} has shape {shape} for {wanted}")
        _expect(kind in ("F16", "F32"), path, f"self {i} has type {kind}")
        cells += math.prod(shape)
    return cells


def _check_plane(
    slices: dict[str, Any], name: str, wanted: list[int], kind: str, path: Path
) -> None:
    if name in slices:
        found = slices[name]
        _expect(found.get_shape() == wanted, path, f"its {name} has shape {found.get_shape()}")
        _expect(found.get_dtype() == kind, path, f"its {name} has type {found.get_dtype()}")


def _expect(condition: bool, path: Path, problem: str) -> None:
    if not condition:
        raise AttributionFileError(f"{path} is not a valid attribution: {problem}.")
