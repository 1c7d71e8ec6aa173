"""The vectors with which text encoders begin, by the names that textual inversion has for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diffusers_rdaam.errors import InputError

_NAMES = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def encoders_of(pipe: Any) -> dict[str, nn.Module]:
    """The text encoders of a pipeline: ``clip_l``, ``clip_g``, or both.

    Raises:
        InputError: it has none with vectors for tokens.
    """
    found = {name: getattr(pipe, attribute, None) for attribute, name in _NAMES.items()}
    encoders = {name: module for name, module in found.items() if module is not None}
    if not encoders or not all(hasattr(e, "get_input_embeddings") for e in encoders.values()):
        raise InputError(
            f"{type(pipe).__name__} has no text encoder whose vectors could be fitted. Use "
            "space='encoded'."
        )
    return encoders


def encoder_names(pipe: Any, width: int) -> dict[str, int]:
    """Into which parts of which width an embedding divides; one part where that is not known."""
    found = {
        name: getattr(getattr(getattr(pipe, attribute, None), "config", None), "hidden_size", None)
        for attribute, name in _NAMES.items()
    }
    widths = {name: size for name, size in found.items() if isinstance(size, int)}
    return widths if sum(widths.values()) == width else {"clip_l": width}


@contextmanager
def replaced_vectors(
    encoders: Mapping[str, nn.Module],
    columns: Sequence[int],
    vectors: Mapping[str, Tensor] | None,
) -> Iterator[dict[str, Tensor]]:
    """Within the block the encoders begin with other vectors at some columns; theirs are yielded.

    Args:
        encoders: by name.
        columns: of the tokens.
        vectors: of each encoder ``(columns, width)``; None leaves them as they are.
    """
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            seen[name] = output[0, list(columns)].detach().clone()
            if vectors is None:
                return None
            index = torch.tensor(list(columns), device=output.device)
            rows = vectors[name].to(output).expand(output.shape[0], -1, -1)
            return output.index_copy(1, index, rows)

        return replace

    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the hooks in place.
    try:
        with undo:
            for name, encoder in encoders.items():
                module: Any = encoder
                register = module.get_input_embeddings().register_forward_hook
                undo.callback(register(hook(name)).remove)
            yield seen
    finally:
        undo.close()
