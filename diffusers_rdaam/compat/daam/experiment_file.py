"""The maps of an experiment as safetensors. A file from a stranger is bad input, not a crash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.prompt_fields import (
    MAX_PROMPT,
    MAX_TOKENS,
    check_prompt,
    read_prompt,
    token_fields,
)
from diffusers_rdaam.errors import AttributionFileError
from diffusers_rdaam.files.fields import Check, is_text, shown
from diffusers_rdaam.files.opening import is_inner_path
from diffusers_rdaam.files.tensor_file import (
    FileKind,
    TensorSpec,
    check_finite,
    open_tensors,
    write_tensors,
)

NAME = "generation.safetensors"
THEIRS = "generation.pt"
KIND = FileKind(
    "diffusers_rdaam.daam_experiment",
    "1",
    "experiment",
    "experiment",
    "not an experiment of diffusers_rdaam.",
)
_MAPS = "global_heat_map"
_MAX_SIDE = 2048
_MAX_CELLS = 2**28


def write_maps(
    path: Path, maps: torch.Tensor, prompt: str, seed: int | None, id: str, tokens: Prompt | None
) -> None:
    """Write the maps ``(rows, height, width)`` and what belongs to them.

    Raises:
        InputError: the folder may not be written, or a reader would refuse what would be written.
    """
    check = Check(path, KIND.noun, writing=True)
    known = None if tokens is None else token_fields(tokens)
    text, found = check.dumped({"prompt": prompt, "seed": seed, "id": id, "tokens": known})
    _check_header(found, check)
    maps = maps.detach().float().cpu()
    _check_maps({_MAPS: TensorSpec.of(maps)}, found, check)
    check_finite(_MAPS, maps, check)
    write_tensors(path, {_MAPS: maps}, KIND.metadata(text), noun=KIND.noun)


def read_maps(path: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """The maps, and ``prompt``, ``seed``, ``id`` and ``tokens`` (a :class:`Prompt` or None).

    Raises:
        AttributionFileError: there is no such file, or it is not a whole, valid experiment.
    """
    if not path.is_file():
        raise AttributionFileError(_missing(path))
    check = Check(path, KIND.noun)
    with open_tensors(path, KIND.noun) as file:
        header = KIND.header(file)
        _check_header(header, check)
        _check_maps(file.specs, header, check)
        tokens = None if header.get("tokens") is None else read_prompt(header, check)
        maps = file.finite(_MAPS, check)
    return maps, {**header, "seed": header.get("seed"), "tokens": tokens}


def _missing(path: Path) -> str:
    if path.with_name(THEIRS).is_file():
        return (
            f"{path.parent} holds {THEIRS}, a pickle of castorini/daam, which could run any code "
            "when it is read, so it is not. Its output.png, prompt.txt and masks are readable; "
            "generate again from prompt.txt and seed.txt for the maps."
        )
    return f"There is no experiment at {path.parent}: {NAME} is missing."


def _check_header(header: Any, check: Check) -> None:
    check(isinstance(header, dict), "its header is not an object")
    prompt, seed, id = (header.get(name) for name in ("prompt", "seed", "id"))
    check(is_text(prompt) and len(prompt) <= MAX_PROMPT, "its prompt is not a text")
    check(seed is None or is_seed(seed), f"its seed is {shown(seed)}")
    right = is_text(id) and is_inner_path(id)
    check(right, f"its id is {shown(id)!r}, which is not the name of a folder within another")
    if header.get("tokens") is not None:
        check_prompt(header, check)


def is_seed(value: Any) -> bool:
    """True for a seed that a generator accepts."""
    return type(value) is int and -(2**63) <= value < 2**64


def _check_maps(specs: Mapping[str, TensorSpec], header: Mapping[str, Any], check: Check) -> None:
    check(_MAPS in specs, f"it has no {_MAPS}")
    spec = specs[_MAPS]
    right = len(spec.shape) == 3 and 1 <= spec.shape[0] <= MAX_TOKENS
    right = right and all(1 <= side <= _MAX_SIDE for side in spec.shape[1:])
    right = right and spec.cells <= _MAX_CELLS
    check(right, f"its maps have shape {spec.shape}")
    check(spec.dtype == "F32", f"its maps have type {spec.dtype}")
