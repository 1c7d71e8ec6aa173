"""What gradients will take in memory: counted on one call before any of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from diffusers_rdaam.errors import InputError
from diffusers_rdaam.recording.memory.budget import megabytes


@dataclass(frozen=True)
class GradientMemory:
    """Bytes of activations that an explanation keeps; the generation takes its memory besides.

    Args:
        call: bytes of one denoiser call.
        inputs: bytes of a call's inputs, which are all that a checkpointed call keeps.
        decoder: bytes of the autoencoder's decoder.
        calls: how many denoiser calls are differentiated.
        checkpointing: whether a call's activations are computed again on the way back.
    """

    call: int
    inputs: int
    decoder: int
    calls: int
    checkpointing: bool

    @property
    def peak(self) -> int:
        """The most that is kept at a time."""
        if self.checkpointing:
            return self.inputs * self.calls + max(self.call, self.decoder)
        return self.call * self.calls + self.decoder

    def __str__(self) -> str:
        calls = "1 denoiser call" if self.calls == 1 else f"{self.calls} denoiser calls"
        each = f"{megabytes(self.call)} a call, {megabytes(self.decoder)} for the decoder"
        if not self.checkpointing:
            return f"Gradients through {calls} keep {megabytes(self.peak)} ({each})."
        return (
            f"Gradients through {calls} keep {megabytes(self.peak)} ({each}, one at a time; "
            f"{megabytes(self.inputs)} for each call's inputs)."
        )

    def check(self, budget: int | None) -> None:
        """Refuse what is over a budget.

        Raises:
            InputError: it is; the text says what would be less.
        """
        if budget is None or self.peak <= budget:
            return
        less = "last_steps= or a smaller image" if self.checkpointing else "checkpointing=True"
        raise InputError(
            f"{str(self)[:-1]}, over the budget of {megabytes(budget)}. Less is kept with {less}; "
            f"or allow it with budget={self.peak}."
        )


def saved_bytes(function: Callable[[], Any], excluded: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for a call of ``function``; they are counted and let go.

    Args:
        function: the function that is differentiated.
        excluded: tensors that are not counted because they are there anyway, such as weights.
    """
    # Weak references: they keep the identity of a storage from being given to a later one.
    known = {_identity(tensor): StorageWeakRef(tensor.untyped_storage()) for tensor in excluded}
    count = 0

    def pack(tensor: Tensor) -> None:
        nonlocal count
        identity = _identity(tensor)
        if identity not in known:
            known[identity] = StorageWeakRef(tensor.untyped_storage())
            count += tensor.untyped_storage().nbytes()

    def unpack(_: None) -> Tensor:
        raise AssertionError("nothing is differentiated here")

    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the hooks in place.
    try:
        with undo:
            undo.enter_context(torch.enable_grad())
            undo.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, unpack))
            function()
    finally:
        undo.close()
    return count


def tensor_bytes(values: Any) -> int:
    """Bytes of all tensors in nested arguments."""
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        return sum(tensor_bytes(value) for value in values.values())
    if isinstance(values, (list, tuple)):
        return sum(tensor_bytes(value) for value in values)
    return 0


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
