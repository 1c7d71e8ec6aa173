"""Weights of a folder that its settings leave no place for, so that nothing reads them.

The libraries load such a folder and log it. Its images are then those of another model: of one with
fewer layers, or without a part.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from diffusers import ModelMixin
from safetensors import SafetensorError
from torch import nn

from diffusers_rdaam.checkpoints.folder import Component, weight_files
from diffusers_rdaam.checkpoints.weights import folder_of, keys_of, renamed


@dataclass(frozen=True)
class Layers:
    """A list of layers of which the files have more than the model.

    Args:
        name: of the list, such as ``"encoder.layers"``.
        declared: how many the model has, by its settings.
        present: how many the files have.
    """

    name: str
    declared: int
    present: int


def unread_weights(model: nn.Module, variant: str | None) -> list[str]:
    """Names of tensors in a model's files for which the model has no place.

    Args:
        model: as it was loaded from a folder.
        variant: of the files, such as ``"fp16"``; None of plain ones.

    Returns:
        The names as the model would have them; none where the files cannot be compared with it.
    """
    keys, names = _keys(model, variant), set(model.state_dict())
    known = _by_name_of_model(keys, names)
    ignored = [re.compile(one) for one in getattr(model, _IGNORED, None) or ()]
    return sorted(
        name
        for key, name in known.items()
        if name not in names and not any(one.search(key) for one in ignored)
    )


def unread_layers(model: nn.Module, unread: Collection[str]) -> Layers | None:
    """The first list of layers that goes on in the files where the model's ends; None if none does.

    Args:
        model: of which the files have more weights than it.
        unread: their names, of :func:`unread_weights`.
    """
    declared = _numbers(model.state_dict())
    for name, numbers in _numbers(unread).items():
        if name in declared and (more := numbers - declared[name]):
            return Layers(name, len(declared[name]), len(declared[name] | more))
    return None


# The libraries' own list of what is in files for another class.
_IGNORED = "_keys_to_ignore_on_load_unexpected"


def _keys(model: nn.Module, variant: str | None) -> set[str]:
    """The names in the files that the model was read from; none where that is not known."""
    folder = folder_of(model)
    # One that was read as quantised has several tensors for a weight.
    if folder is None or getattr(model, "hf_quantizer", None) is not None:
        return set()
    library = "diffusers" if isinstance(model, ModelMixin) else "transformers"
    component = Component(folder.name, library, type(model).__name__, folder)
    try:
        return {key for file in weight_files(component, variant) for key in keys_of(file)}
    except (OSError, SafetensorError):
        return set()


def _by_name_of_model(keys: Collection[str], names: Collection[str]) -> dict[str, str]:
    """The files' names, as the model would have them, of the part of the files that it reads.

    Files of a larger model have its part under a prefix (``text_model.``), and files of the part
    lack one. The prefix under which most of the model's names are is the one that is read.
    """
    inside = Counter(head for key in keys for head in _heads(key, renamed(key), names))
    outside = Counter(head for name in names for head in _heads(name, name, keys) if head)
    if not inside and not outside:
        return {}
    best, count = max([*inside.items(), *outside.items()], key=lambda one: one[1])
    if [*inside.values(), *outside.values()].count(count) > 1:
        return {}
    if best not in inside or inside[best] != count:
        return {key: best + renamed(key) for key in keys}
    return {key: renamed(key).removeprefix(best) for key in keys if key.startswith(best)}


def _heads(key: str, known: str, names: Collection[str]) -> Iterator[str]:
    """What comes before one of some names in a longer one; empty where they are the same."""
    places = [0, *(found.end() for found in re.finditer(r"\.", known))]
    return (known[:place] for place in places if known[place:] in names)


def _numbers(names: Collection[str]) -> dict[str, set[int]]:
    """Which numbers follow each part of dotted names."""
    found: dict[str, set[int]] = defaultdict(set)
    for name in names:
        for number in re.finditer(r"\.(\d+)(?=\.)", name):
            found[name[: number.start()]].add(int(number[1]))
    return found
