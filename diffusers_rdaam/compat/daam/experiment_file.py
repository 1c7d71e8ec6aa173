"""The maps of an experiment as safetensors. A file from a stranger is bad input, not a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import AttributionFileError, InputError

NAME = "generation.safetensors"
THEIRS = "generation.pt"
_FORMAT, _VERSION = "diffusers_rdaam.daam_experiment", "1"
_MAX_HEADER, _MAX_ROWS, _MAX_SIDE = 16_000_000, 8192, 2048


def write_maps(
    path: Path, maps: torch.Tensor, prompt: str, seed: int | None, id: str, tokens: Prompt | None
) -> None:
    """Write the maps ``(rows, height, width)`` and what belongs to them.

    Raises:
        InputError: the folder may not be written.
    """
    known = None if tokens is None else [[t.text, t.kind, t.start, t.end] for t in tokens.tokens]
    header = {"prompt": prompt, "seed": seed, "id": id, "tokens": known}
    metadata = {"format": _FORMAT, "version": _VERSION, "experiment": json.dumps(header)}
    try:
        save_file({"global_heat_map": maps.float().cpu().contiguous()}, path, metadata)
    except (SafetensorError, OSError) as error:
        raise InputError(f"The experiment could not be written to {path}: {error}.") from error


def read_maps(path: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """The maps, and ``prompt``, ``seed``, ``id`` and ``tokens`` (a :class:`Prompt` or None).

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid experiment.
    """
    if not path.is_file():
        raise AttributionFileError(_missing(path))
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata())
            if "global_heat_map" not in file.keys():  # noqa: SIM118  # it is no mapping
                raise _bad(path, "it has no global_heat_map")
            shape = file.get_slice("global_heat_map").get_shape()
            if len(shape) != 3 or not 1 <= shape[0] <= _MAX_ROWS or max(shape[1:]) > _MAX_SIDE:
                raise _bad(path, f"its maps have shape {shape}")
            # A copy: what is read is mapped, and would change or crash when the file does.
            maps = file.get_tensor("global_heat_map").clone()
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise AttributionFileError(f"{path} is not a whole safetensors file ({error}).") from error
    if maps.dtype != torch.float32 or not bool(torch.isfinite(maps).all()):
        raise _bad(path, "its maps are not finite float32")
    return maps, header


def _missing(path: Path) -> str:
    if path.with_name(THEIRS).is_file():
        return (
            f"{path.parent} holds {THEIRS}, a pickle of castorini/daam, which could run any code "
            "when it is read, so it is not. Its output.png, prompt.txt and masks are readable; "
            "generate again from prompt.txt and seed.txt for the maps."
        )
    return f"There is no experiment at {path.parent}: {NAME} is missing."


def _bad(path: Path, problem: str) -> AttributionFileError:
    return AttributionFileError(f"{path} is not a valid experiment: {problem}.")


def _header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or metadata.get("format") != _FORMAT:
        raise _bad(path, "it is another kind of safetensors file")
    if metadata.get("version") != _VERSION:
        raise _bad(path, f"this release reads version {_VERSION} only")
    text = metadata.get("experiment", "")
    try:
        header = json.loads(text) if len(text) <= _MAX_HEADER else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _bad(path, "its header is no JSON object")
    texts = all(isinstance(header.get(name), str) for name in ("prompt", "id"))
    if not texts or type(header.get("seed")) not in (int, type(None)):
        raise _bad(path, "its prompt, id or seed is of the wrong type")
    header["tokens"] = _tokens(path, header["prompt"], header.get("tokens"))
    return header


def _tokens(path: Path, prompt: str, known: Any) -> Prompt | None:
    if known is None:
        return None
    try:
        if len(known) > _MAX_ROWS:
            raise ValueError
        tokens = []
        for column, (text, kind, start, end) in enumerate(known):
            whole = kind in ("text", "start", "end", "padding", "unknown")
            spans = (int, int) if kind == "text" else (type(None), type(None))
            if not whole or not isinstance(text, str) or (type(start), type(end)) != spans:
                raise ValueError
            tokens.append(Token(column, text, kind, start, end))
        return Prompt(prompt, tuple(tokens))
    except (TypeError, ValueError):
        raise _bad(path, "its tokens are none") from None
