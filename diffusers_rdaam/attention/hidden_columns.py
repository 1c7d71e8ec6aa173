"""HiddenColumns: key columns that some positions of an attention call do not attend to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor

from diffusers_rdaam.errors import InputError

# Of both attention functions that processors of diffusers call, in order.
_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
# Of diffusers' attention backends those that take a mask of queries by keys.
MASKED_BACKENDS = (
    "native",
    "_native_cudnn",
    "_native_efficient",
    "_native_math",
    "_native_npu",
    "xformers",
)


@dataclass(frozen=True)
class HiddenColumns:
    """Key columns that some rows and positions of a call do not attend to.

    Args:
        columns: among the keys, ``(hidden,)`` of integers, on the call's device.
        rows: of the call.
        queries: the positions among the queries.
        thread: whose calls are changed.
    """

    columns: Tensor
    rows: slice
    queries: slice
    thread: int

    def concerns(self) -> bool:
        """Whether the present call is one of the thread's; compiled code cannot ask."""
        return torch.compiler.is_compiling() or self.thread == threading.get_ident()

    def arguments(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments of an attention function, by name, with the columns hidden by its mask.

        Args:
            function, args, kwargs: the function and what it was to be called with.

        Raises:
            InputError: the mask is not a tensor.
        """
        options = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        query, key, mask = options["query"], options["key"], options.get("attn_mask")
        dispatched = function is dispatch_attention_fn
        # Positions before heads, or after them.
        axis = 1 if dispatched else 2
        if mask is not None and not isinstance(mask, Tensor):
            raise InputError(
                f"The denoiser attends with a sparse mask ({type(mask).__name__}), in which no "
                "column can be hidden. Use mode='padding'."
            )
        if dispatched and mask is not None and mask.ndim == 2:
            mask = mask[:, None, None, :]
        seen = self.seen(query.shape[0], query.shape[axis], key.shape[axis])
        if mask is None:
            mask = seen
        elif mask.dtype == torch.bool:
            mask = mask & seen
        else:
            mask = mask.masked_fill(~seen, -torch.inf)
        return options | {"attn_mask": mask}

    def seen(self, rows: int, positions: int, columns: int) -> Tensor:
        """What is attended to, ``(rows, 1, positions, columns)`` boolean."""
        shape, device = (rows, 1, positions, columns), self.columns.device
        seen = torch.ones(shape, dtype=torch.bool, device=device)
        seen[self.rows, :, self.queries].index_fill_(-1, self.columns, False)
        return seen


def check_backend(backend: str) -> None:
    """Refuse an attention backend of diffusers in which no column can be hidden.

    Raises:
        InputError: it takes no mask of queries by keys.
    """
    if backend not in MASKED_BACKENDS:
        raise InputError(
            f"The attention backend {backend!r} takes no mask, so columns cannot be hidden. Use "
            "mode='padding', or a backend that does, with "
            "pipe.transformer.set_attention_backend('native')."
        )
