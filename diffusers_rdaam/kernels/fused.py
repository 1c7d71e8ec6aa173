"""Triton kernels that record: the maps alone, or the attention's output and its maps in one pass.

:func:`accumulate` computes the maps after the stock attention, so the image is not changed.
:func:`attend` computes the output as well: queries and keys are read once, and one kernel is
launched in place of two. Its output differs from the stock kernel's by rounding.

Importing this module does not import Triton.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache

import torch
from torch import Tensor

from diffusers_rdaam.kernels import blocks
from diffusers_rdaam.kernels.blocks import Blocks
from diffusers_rdaam.kernels.fused_launch import (
    NotServedError,
    empty_output,
    kind_of,
    launch_columns,
    launch_forward,
    launch_text,
    refused,
)
from diffusers_rdaam.kernels.rows import recorded_rows

__all__ = [
    "NotServedError",
    "accumulate",
    "attend",
    "interpreted",
    "unavailable",
    "unserved",
]

# The largest head size: with more channels a tile of keys alone would fill the shared memory.
MOST_CHANNELS = 256
_TYPES = (torch.float16, torch.bfloat16, torch.float32)
# The oldest compute capability whose tensor cores multiply bfloat16.
_OLDEST = (8, 0)
# The oldest version that the kernels were tested with.
_OLDEST_TRITON = (3, 4)


@lru_cache(maxsize=16)
def unavailable(device: torch.device) -> str | None:
    """Why no Triton kernel runs on a device; None where one does."""
    if importlib.util.find_spec("triton") is None:
        return (
            "Triton is not installed (it comes with CUDA builds of torch, or: pip install triton)"
        )
    if device.type == "cpu" and interpreted():
        return None
    if device.type != "cuda":
        return f"Triton kernels run on CUDA devices, not on {device.type}"
    if torch.version.hip is not None:
        return "the Triton kernels were not tested on ROCm"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if (version := _triton_version()) < _OLDEST_TRITON:
        return f"Triton {_dotted(version)} is older than {_dotted(_OLDEST_TRITON)}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        return f"compute capability {_dotted(capability)} is under {_dotted(_OLDEST)}"
    return None


def _triton_version() -> tuple[int, int]:
    import triton

    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def interpreted() -> bool:
    """Whether Triton's interpreter is on, which runs the kernels on the CPU, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unserved(
    query: Tensor, key: Tensor, *, lse: Tensor | None = None, value: Tensor | None = None
) -> str | None:
    """Why these kernels do not serve a call; None where they do."""
    if query.dtype not in _TYPES:
        return f"queries are {query.dtype}, not float16, bfloat16 or float32"
    for name, tensor in (("keys", key), ("values", value)):
        if tensor is not None and tensor.dtype != query.dtype:
            return f"queries are {query.dtype}, {name} {tensor.dtype}"
    if query.dtype == torch.bfloat16 and query.device.type != "cuda" and interpreted():
        return "Triton's interpreter does not multiply bfloat16"
    for name, tensor in (("queries", query), ("keys", key), ("values", value)):
        if tensor is not None and _reach(tensor) >= 2**31:
            return f"the {name} of one row span more than 2**31 elements of memory"
    if query.shape[-1] > MOST_CHANNELS:
        return f"head size {query.shape[-1]} is over {MOST_CHANNELS}"
    if value is not None and value.shape[-1] != query.shape[-1]:
        return f"heads of values have {value.shape[-1]} channels, of queries {query.shape[-1]}"
    return refused.get(kind_of(query, key)) if refused else None


def accumulate(
    query: Tensor,
    key: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    mask: Tensor | None = None,
    scale: float,
    lse: Tensor | None = None,
    count: Tensor | None = None,
    first: int | None = None,
    cut: Blocks | None = None,
) -> None:
    """Add the recorded rows' probabilities to the planes, and compute no output.

    Args:
        query: ``(rows, heads, positions, channels)``.
        key: ``(rows, key heads, columns, channels)``; the key heads divide the heads.
        high, low: planes ``(rows, columns, positions)`` for means over the heads, or ``(rows,
            heads, columns, positions)`` for the maps of each head; ``low`` None for one plane.
        mask: added to the logits, or boolean and true where a column may be attended to;
            broadcasts to ``(rows, heads, positions, columns)``.
        scale: the factor of the products.
        lse: ``(rows, heads, positions)``, the natural logarithm of the sum over *all* columns of
            ``exp(scale * q.k + mask)``, where ``key`` has some of them only.
        count: one int32 element, the number of additions; 1 is added.
        first: the row whose maps go to the planes' first, and those after it to the others; None
            where the planes have all rows.
        cut: how the work is cut; chosen by the shapes if None.
    """
    if query.shape[0] == 0 or high.shape[0] == 0:
        return
    if lse is None and _one_tile(query, key, attends=False):
        launch_text(query, key, None, high, low, first or 0, mask, scale, count, cut)
        return
    query, key, mask, lse = recorded_rows(query, key, mask, lse, first=first, images=high.shape[0])
    if lse is None:
        _, lse = launch_forward(query, key, None, mask, scale)
    launch_columns(query, key, lse, high, low, mask, scale, count, cut)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    high: Tensor,
    low: Tensor | None,
    *,
    first: int,
    mask: Tensor | None = None,
    scale: float,
    count: Tensor | None = None,
    cut: Blocks | None = None,
) -> Tensor:
    """Compute the attention of all rows, and in the same pass add some rows' probabilities.

    Columns that do not fit one tile take two passes, of which the second makes the maps.

    Args:
        query, key, high, low, mask, scale, count, cut: as for :func:`accumulate`.
        value: in the shape of ``key``.
        first: the row whose maps go to the planes' first; those after it follow.

    Returns:
        ``(rows, heads, positions, channels)``, laid out as ``(rows, positions, heads, channels)``,
        as diffusers' next projection reads it.
    """
    if query.shape[0] == 0:
        return empty_output(query)
    if _one_tile(query, key, attends=True):
        return launch_text(query, key, value, high, low, first, mask, scale, count, cut)
    output, sums = launch_forward(query, key, value, mask, scale)
    query, key, mask, lse = recorded_rows(query, key, mask, sums, first=first, images=high.shape[0])
    assert lse is not None
    launch_columns(query, key, lse, high, low, mask, scale, count, cut)
    return output


def _reach(tensor: Tensor) -> int:
    """The offset of a row's last element from its first, which the kernels hold in 32 bits."""
    _, *strides = tensor.stride()
    return sum((size - 1) * stride for size, stride in zip(tensor.shape[1:], strides, strict=True))


def _one_tile(query: Tensor, key: Tensor, *, attends: bool) -> bool:
    return blocks.fits_one_tile(key.shape[2], query.shape[3], query.element_size(), attends=attends)
