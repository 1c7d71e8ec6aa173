"""Weights of a loaded pipeline that its files do not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from diffusers_rdaam.checkpoints.folder import file_keys


def models(pipe: Any) -> dict[str, nn.Module]:
    """The models of a pipeline by name."""
    return {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}


def empty_weights(model: nn.Module) -> list[str]:
    """Weights that were not read, and have no values."""
    return [name for name, weight in model.named_parameters() if weight.is_meta]


def random_weights(model: nn.Module) -> list[str]:
    """Weights of a model of transformers that were not read, and have random values.

    transformers marks what it reads or ties, and draws the rest. The files must lack the name too,
    so that a change of these marks accuses nobody.
    """
    marked = {name for name, one in model.named_parameters() if _is_marked(one)}
    keys = file_keys(Path(str(getattr(model, "name_or_path", ""))))
    if not marked or keys is None:
        return []
    return [
        names[0]
        for names in _names_by_weight(model)
        if names[0] not in marked and not any(_is_in(name, keys) for name in names)
    ]


def listed(names: list[str], of: int) -> str:
    """How many weights, and which."""
    count = "all of its weights" if len(names) == of else f"{len(names)} of its {of} weights"
    return f"{count}, such as {names[0]}"


def _is_marked(weight: nn.Parameter) -> bool:
    return bool(getattr(weight, "_is_hf_initialized", False))


def _names_by_weight(model: nn.Module) -> list[list[str]]:
    """Every name of each weight: tied weights have several, and the file has one of them."""
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    return list(names.values())


def _is_in(name: str, keys: set[str]) -> bool:
    """Whether a file has a weight, under this name, with another prefix, or quantised in parts."""
    if name in keys:
        return True
    return any(
        key.endswith(f".{name}") or name.endswith(f".{key}") or f".{name}." in f".{key}"
        for key in keys
    )
