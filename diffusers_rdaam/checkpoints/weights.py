"""Weights of a loaded pipeline that its files do not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError
from torch import nn

from diffusers_rdaam.checkpoints.folder import header_keys

# diffusers gives the layers of old attention blocks these names when it reads them.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def models(pipe: Any) -> dict[str, nn.Module]:
    """The models of a pipeline by name."""
    return {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}


def empty_weights(model: nn.Module) -> list[str]:
    """Weights that were not read, and have no values."""
    return [name for name, weight in model.named_parameters() if weight.is_meta]


def random_weights(model: nn.Module) -> list[str]:
    """Weights that were not read, and have random values.

    transformers marks what it reads or ties, and draws the rest. diffusers leaves the rest empty
    with accelerate, and as the memory was without it. The files must lack the name too, so that a
    change of these marks accuses nobody.
    """
    marked = {name for name, one in model.named_parameters() if _is_marked(one)}
    folder = folder_of(model)
    is_of_diffusers = isinstance(model, ModelMixin)
    if folder is None or (is_of_diffusers and not marked and is_accelerate_available()):
        return []
    unmarked = [names for names in _names_by_weight(model) if names[0] not in marked]
    keys = _file_keys(folder) if unmarked else None
    if keys is None:
        return []
    # Only a model that was read as quantised takes a weight from several tensors.
    keys = keys | _wholes(keys) if getattr(model, "hf_quantizer", None) is not None else keys
    return [names[0] for names in unmarked if not any(_is_in(name, keys) for name in names)]


@contextmanager
def without_random_weights(pipe: Any) -> Iterator[None]:
    """NaN in place of the random weights of a pipeline's models, for the time of a block.

    What depends on one of them is then NaN too, and what does not is what it was.
    """
    kept: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for model in models(pipe).values():
                drawn = set(random_weights(model))
                for name, weight in model.named_parameters():
                    if name in drawn and weight.is_floating_point():
                        kept.append((weight, weight.detach().clone()))
                        weight.fill_(float("nan"))
        yield
    finally:
        with torch.no_grad():
            for weight, values in kept:
                weight.copy_(values)


def listed(names: list[str], of: int) -> str:
    """How many weights, and which."""
    count = "all of its weights" if len(names) == of else f"{len(names)} of its {of} weights"
    return f"{count}, such as {names[0]}"


def _is_marked(weight: nn.Parameter) -> bool:
    return bool(getattr(weight, "_is_hf_initialized", False))


def folder_of(model: nn.Module) -> Path | None:
    """The folder that a model was read from; None if not known."""
    config = getattr(model, "config", None)
    name = getattr(model, "name_or_path", "") or getattr(config, "_name_or_path", "")
    return Path(name) if name and Path(name).is_dir() else None


def _file_keys(folder: Path) -> set[str] | None:
    """The names of the tensors in a component's files; None if not known."""
    keys: set[str] = set()
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
        try:
            keys |= set(keys_of(file))
        except (OSError, SafetensorError):
            # Of a variant that nobody reads: what is read was looked at before.
            continue
        except Exception:
            # torch has an exception of its own for each way in which a pickle cannot be read.
            return None
    return {renamed(key) for key in keys} | keys if keys else None


def keys_of(file: Path) -> list[str]:
    """The names of the tensors in a file of weights.

    Raises:
        SafetensorError: the file is cut off or damaged.
        OSError: it cannot be read.
    """
    if file.suffix == ".safetensors":
        return header_keys(file)
    # The numbers of a pickled file stay on the disk.
    return list(torch.load(file, map_location="meta", weights_only=True, mmap=True))


def renamed(key: str) -> str:
    """A name of an old attention block as diffusers names it now."""
    head, _, last = key.rpartition(".")
    before, _, layer = head.rpartition(".")
    return f"{before}.{_RENAMED.get(layer, layer)}.{last}" if before else key


def _names_by_weight(model: nn.Module) -> list[list[str]]:
    """Every name of each weight: tied weights have several, and the file has one of them."""
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    return list(names.values())


def _is_in(name: str, keys: set[str]) -> bool:
    """Whether a file has a weight, under this name or with another prefix."""
    if name in keys:
        return True
    return any(key.endswith(f".{name}") or name.endswith(f".{key}") for key in keys)


def _wholes(keys: set[str]) -> set[str]:
    """The names of weights that a file has in parts, such as ``weight._data``."""
    return {key.rpartition(".")[0] for key in keys} - {""}
