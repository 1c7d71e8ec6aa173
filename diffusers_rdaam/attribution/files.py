"""Attribution files: safetensors with a JSON header. A file from a stranger is bad input.

Every field is checked before it is used and every size is bounded; nothing is ever unpickled, and
the image is raw pixels, so that no decoder meets a stranger's bytes.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffusers_rdaam.attribution.attribution import Attribution, Grid, RunInfo
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import AttributionFileError, InputError, RDAAMError

FORMAT = "diffusers_rdaam.attribution"
VERSION = 1
MAX_SIDE = 16384
MAX_GRID_SIDE = 2048
MAX_TOKENS = 8192
MAX_GRIDS = 64
MAX_CELLS = 2**28  # of all grids together: 1 GiB
MAX_PROMPT = 1_000_000
MAX_HEADER = 16_000_000


def save_attribution(attribution: Attribution, path: Path) -> Path:
    """Write ``attribution`` to ``path``, whole or not at all.

    Raises:
        InputError: the folder does not exist or may not be written.
    """
    # Copies, because the format refuses tensors that share memory.
    tensors = {
        f"grid.{i}": grid.maps.clone(memory_format=torch.contiguous_format)
        for i, grid in enumerate(attribution.grids)
    }
    if attribution.image is not None:
        pixels = np.asarray(attribution.image.convert("RGB"))
        tensors["image"] = torch.from_numpy(pixels.copy())
    header = {
        "prompt": attribution.prompt.text,
        "tokens": [
            [token.text, token.kind, token.start, token.end] for token in attribution.prompt.tokens
        ],
        "image_size": list(attribution.image_size),
        "grids": [
            {"additions": grid.additions, "sites": list(grid.sites)} for grid in attribution.grids
        ],
        "run": attribution.run,
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "attribution": json.dumps(header, ensure_ascii=False),
    }
    try:
        temporary = path.with_name(path.name + ".part")
        try:
            # Not save_file, which makes files that only their owner may read.
            temporary.write_bytes(save(tensors, metadata=metadata))
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    # ValueError: a path without a name, and text that is no Unicode.
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"The attribution could not be written to {path}: {error}. Give a path in a folder "
            "that exists and may be written."
        ) from error
    return path


def load_attribution(path: Path) -> Attribution:
    """Read and check what :func:`save_attribution` wrote.

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid attribution.
    """
    try:
        if not path.is_file():
            raise AttributionFileError(f"There is no attribution file at {path}.")
        with safe_open(path, framework="pt") as file:
            header = _read_header(file.metadata(), path)
            wanted = [f"grid.{i}" for i in range(len(header["grids"]))]
            present = set(file.keys())
            for name in wanted:
                _expect(name in present, path, f"the tensor {name!r} is missing")
            _check_shapes({name: file.get_slice(name) for name in present}, header, path)
            # Copies: what is read is mapped, and would change or crash when the file does.
            grids = [file.get_tensor(name).clone() for name in wanted]
            pixels = file.get_tensor("image").clone() if "image" in present else None
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise AttributionFileError(
            f"{path} is not a whole safetensors file ({error}). It may be cut off; save it again."
        ) from error
    try:
        return _build(header, grids, pixels)
    except AttributionFileError:
        raise
    except RDAAMError as error:
        raise AttributionFileError(f"{path} is not a valid attribution: {error}") from error


def _expect(condition: bool, path: Path, problem: str) -> None:
    if not condition:
        raise AttributionFileError(f"{path} is not a valid attribution: {problem}.")


def _read_header(metadata: dict[str, str] | None, path: Path) -> dict[str, Any]:
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
    prompt = header.get("prompt", False)
    _expect(prompt is None or _is_text(prompt), path, "its prompt is no text")
    _expect(len(prompt or "") <= MAX_PROMPT, path, f"its prompt is over {MAX_PROMPT} characters")
    _expect(_is_size(header.get("image_size"), MAX_SIDE), path, "its image size is no size")
    tokens = header.get("tokens")
    _expect(isinstance(tokens, list) and 1 <= len(tokens) <= MAX_TOKENS, path, "it has no tokens")
    for token in tokens:
        _expect(_is_token(token), path, f"{str(token)[:80]} is no token")
    grids = header.get("grids")
    _expect(isinstance(grids, list) and 1 <= len(grids) <= MAX_GRIDS, path, "it has no grids")
    for grid in grids:
        _expect(_is_grid(grid), path, f"{str(grid)[:80]} is no grid")
    run = header.get("run")
    _expect(_is_run(run), path, "its facts about the run are no flat object")


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
        and type(grid.get("additions")) is int
        and 1 <= grid["additions"] <= 2**53
        and isinstance(grid.get("sites"), list)
        and all(isinstance(site, str) for site in grid["sites"])
    )


def _is_run(run: Any) -> bool:
    return isinstance(run, dict) and all(
        value is None or isinstance(value, (str, int, float, bool)) for value in run.values()
    )


def _check_shapes(slices: dict[str, Any], header: dict[str, Any], path: Path) -> None:
    """Check types and shapes from the file's own table, before any tensor is read."""
    tokens = len(header["tokens"])
    cells = 0
    for i in range(len(header["grids"])):
        part = slices[f"grid.{i}"]
        shape = part.get_shape()
        right = len(shape) == 3 and shape[0] == tokens
        right = right and all(1 <= side <= MAX_GRID_SIDE for side in shape[1:])
        _expect(right, path, f"grid {i} has shape {shape} for {tokens} tokens")
        _expect(part.get_dtype() == "F32", path, f"grid {i} has type {part.get_dtype()}")
        cells += math.prod(shape)
    _expect(cells <= MAX_CELLS, path, f"its grids have {cells} cells, over {MAX_CELLS}")
    if "image" in slices:
        part = slices["image"]
        wanted = [*header["image_size"], 3]
        _expect(part.get_shape() == wanted, path, f"its image has shape {part.get_shape()}")
        _expect(part.get_dtype() == "U8", path, f"its image has type {part.get_dtype()}")


def _build(header: dict[str, Any], grids: list[Tensor], pixels: Tensor | None) -> Attribution:
    for i, maps in enumerate(grids):
        if not bool(torch.isfinite(maps).all()):
            raise InputError(f"grid {i} has values that are not finite")
    tokens = tuple(Token(i, *token) for i, token in enumerate(header["tokens"]))
    run: RunInfo = header["run"]
    height, width = header["image_size"]
    return Attribution(
        prompt=Prompt(header["prompt"], tokens),
        grids=tuple(
            Grid(maps, grid["additions"], tuple(grid["sites"]))
            for maps, grid in zip(grids, header["grids"], strict=True)
        ),
        image_size=(height, width),
        image=None if pixels is None else Image.fromarray(pixels.numpy()),
        run=run,
    )
