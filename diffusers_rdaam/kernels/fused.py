"""Triton kernels that record: maps in one pass, or the attention's output and its maps in one pass.

:func:`accumulate` makes the maps beside the stock attention, which leaves the image as it is.
:func:`attend` makes the output as well, so that queries and keys are read once and one kernel is
launched where there were two; its output is not the stock kernel's in every bit.

Importing this module does not import Triton.
"""

from __future__ import annotations

import importlib.util
import math
import os
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from diffusers_rdaam.kernels import blocks
from diffusers_rdaam.kernels.blocks import Blocks, cover

# Their head sizes are up to here; beyond, a tile of keys alone would fill the shared memory.
MOST_CHANNELS = 256
_TYPES = (torch.float16, torch.bfloat16, torch.float32)
# Compute capability; before it the tensor cores know no bfloat16.
_OLDEST = (8, 0)
# Where nothing is launched, in the interpreter: what a large GPU has.
_PROCESSORS = 108


@lru_cache(maxsize=16)
def unavailable(device: torch.device) -> str | None:
    """Why no Triton kernel runs on a device; None where they do."""
    if importlib.util.find_spec("triton") is None:
        return (
            "Triton is not installed (it comes with CUDA builds of torch, or: pip install triton)"
        )
    if device.type == "cpu" and interpreted():
        return None
    if device.type != "cuda":
        return f"Triton kernels run on CUDA devices, not on {device.type}"
    if torch.version.hip is not None:
        return "the Triton kernels were not tried on ROCm"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    capability = torch.cuda.get_device_capability(device)
    if capability < _OLDEST:
        found, wanted = (".".join(map(str, pair)) for pair in (capability, _OLDEST))
        return f"compute capability {found} is under {wanted}"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter is switched on, which serves tensors on the CPU, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unserved(
    query: Tensor, key: Tensor, *, lse: Tensor | None = None, value: Tensor | None = None
) -> str | None:
    """Why a call is not one for these kernels; None where it is."""
    if query.dtype not in _TYPES:
        return f"queries are {query.dtype}, not float16, bfloat16 or float32"
    for name, tensor in (("keys", key), ("values", value)):
        if tensor is not None and tensor.dtype != query.dtype:
            return f"queries are {query.dtype}, {name} {tensor.dtype}"
    if query.dtype == torch.bfloat16 and query.device.type != "cuda" and interpreted():
        return "Triton's interpreter does not multiply bfloat16"
    if query.shape[-1] > MOST_CHANNELS:
        return f"head size {query.shape[-1]} is over {MOST_CHANNELS}"
    if value is not None and value.shape[-1] != query.shape[-1]:
        return f"heads of values have {value.shape[-1]} channels, of queries {query.shape[-1]}"
    return None


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
    cut: Blocks | None = None,
) -> None:
    """Add every row's probabilities to the planes, beside the stock attention.

    Args:
        query: ``(rows, heads, positions, channels)``.
        key: ``(rows, key heads, columns, channels)``; the key heads divide the heads.
        high, low: planes ``(rows, columns, positions)`` for means over the heads, or ``(rows,
            heads, columns, positions)`` for each head's own; ``low`` None for a single plane.
        mask: added to the logits, or boolean and true where a column may be attended to;
            broadcasts to ``(rows, heads, positions, columns)``.
        scale: of the logits.
        lse: ``(rows, heads, positions)``, the natural logarithm of the sum over *all* columns of
            ``exp(scale * q.k + mask)``, where ``key`` has some of them only.
        count: one int32 element that becomes one more.
        cut: how the work is cut; by the shapes if not given.
    """
    if query.shape[0] == 0:
        return
    attends = False
    if lse is None and _one_tile(query, key, attends=attends):
        _launch_text(query, key, None, high, low, 0, mask, scale, count, cut)
        return
    if lse is None:
        _, lse = _forward(query, key, None, mask, scale)
    _launch_columns(query, key, lse, high, low, mask, scale, count, cut)


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
    """The attention of all rows; in the same pass some rows' probabilities go to the planes.

    Columns that do not fit one tile take two passes, of which the second makes the maps.

    Args:
        query, key, high, low, mask, scale, count, cut: as for :func:`accumulate`.
        value: as ``key``.
        first: the row whose maps go to the planes' first; those after it follow.

    Returns:
        ``(rows, heads, positions, channels)``, laid out as ``(rows, positions, heads, channels)``,
        as diffusers' next projection reads it.
    """
    if query.shape[0] == 0:
        return _empty_output(query)
    if _one_tile(query, key, attends=True):
        return _launch_text(query, key, value, high, low, first, mask, scale, count, cut)
    output, lse = _forward(query, key, value, mask, scale)
    rows = slice(first, first + high.shape[0])
    part = None
    if mask is not None:
        part = mask.expand(*query.shape[:3], key.shape[2])[rows]
    _launch_columns(query[rows], key[rows], lse[rows], high, low, part, scale, count, cut)
    return output


def _one_tile(query: Tensor, key: Tensor, *, attends: bool) -> bool:
    return blocks.fits_one_tile(key.shape[2], query.shape[3], query.element_size(), attends=attends)


def _empty_output(query: Tensor) -> Tensor:
    rows, heads, positions, channels = query.shape
    return query.new_empty(rows, positions, heads, channels).transpose(1, 2)


def _launch_text(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    high: Tensor,
    low: Tensor | None,
    first: int,
    mask: Tensor | None,
    scale: float,
    count: Tensor | None,
    cut: Blocks | None,
) -> Tensor:
    from diffusers_rdaam.kernels.fused_text import attend_to_text, fold_shares

    query, key = _ready(query), _ready(key)
    values = key if value is None else _ready(value)
    rows, heads, positions, channels = query.shape
    columns, images, apart = key.shape[2], high.shape[0], high.ndim == 4
    cut = cut or blocks.for_text(
        rows, positions, columns, heads, channels, query.element_size(),
        _processors(query.device), attends=value is not None,
    )  # fmt: skip
    output = query if value is None else _empty_output(query)
    meet = cut.splits > 1 and not apart
    partial = high
    if meet:
        shape = (cut.splits, images, columns, positions)
        partial = torch.empty(shape, dtype=torch.float32, device=query.device)
    depth, width = cover(channels), cover(columns)
    planes = (high.stride(0), high.stride(1) if apart else 0, high.stride(-2))
    grid = (-(-positions // cut.positions), rows * cut.splits)
    with _on(query.device):
        attend_to_text[grid](
            query, key, values, output, high, high if low is None else low, partial,
            high if count is None else count, query if mask is None else mask,
            positions, columns, heads, heads // key.shape[1], first, first + images,
            _factor(scale, mask), 1.0 / heads,
            *query.stride()[:3], *key.stride()[:3], *values.stride()[:3], *planes,
            *_mask_strides(mask, query, columns),
            DIM=channels, DIM_MAIN=depth.main, DIM_REST=depth.rest,
            COLUMNS_MAIN=width.main, COLUMNS_REST=width.rest, BLOCK=cut.positions,
            SPLITS=cut.splits, VECTOR=_vector(query, key, values), ATTENDS=value is not None,
            MASK=_mask_kind(mask), APART=apart, PAIR=low is not None, COUNTS=count is not None,
            PRECISION=_precision(query), num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
        if meet:
            cells = 1024
            fold_shares[(-(-columns * positions // cells), images)](
                partial, high, high if low is None else low, positions, columns,
                high.stride(0), high.stride(1),
                SPLITS=cut.splits, PAIR=low is not None, BLOCK=cells,
            )  # fmt: skip
    return output


def _forward(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Output, or with no value something else, and log-sum-exp ``(rows, heads, positions)``."""
    from diffusers_rdaam.kernels.fused_long import attend_and_sum

    query, key = _ready(query), _ready(key)
    values = key if value is None else _ready(value)
    rows, heads, positions, channels = query.shape
    output = query if value is None else _empty_output(query)
    lse = torch.empty(rows, heads, positions, dtype=torch.float32, device=query.device)
    depth = cover(channels)
    cut = blocks.for_columns(key.shape[2], channels, query.element_size())
    with _on(query.device):
        attend_and_sum[(-(-positions // cut.positions), heads, rows)](
            query, key, values, output, lse, query if mask is None else mask,
            positions, key.shape[2], heads, heads // key.shape[1], _factor(scale, mask),
            *query.stride()[:3], *key.stride()[:3], *values.stride()[:3],
            *_mask_strides(mask, query, key.shape[2]),
            DIM=channels, DIM_MAIN=depth.main, DIM_REST=depth.rest, BLOCK=cut.positions,
            TILE=cut.columns, VECTOR=_vector(query, key, values), ATTENDS=value is not None,
            MASK=_mask_kind(mask), PRECISION=_precision(query),
            num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
    return output, lse


def _launch_columns(
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    count: Tensor | None,
    cut: Blocks | None,
) -> None:
    from diffusers_rdaam.kernels.fused_long import add_columns

    query, key = _ready(query), _ready(key)
    rows, heads, positions, channels = query.shape
    columns, apart = key.shape[2], high.ndim == 4
    depth = cover(channels)
    cut = cut or blocks.for_columns(columns, channels, query.element_size())
    planes = (high.stride(0), high.stride(1) if apart else 0, high.stride(-2))
    grid = (
        -(-positions // cut.positions),
        -(-columns // cut.columns),
        rows * heads if apart else rows,
    )
    with _on(query.device):
        add_columns[grid](
            query, key, lse, high, high if low is None else low,
            high if count is None else count, query if mask is None else mask,
            positions, columns, heads, heads // key.shape[1], _factor(scale, mask),
            1.0 if apart else 1.0 / heads,
            *query.stride()[:3], *key.stride()[:3], *lse.stride(), *planes,
            *_mask_strides(mask, query, columns),
            DIM=channels, DIM_MAIN=depth.main, DIM_REST=depth.rest, BLOCK=cut.positions,
            TILE=cut.columns, VECTOR=_vector(query, key), MASK=_mask_kind(mask), APART=apart,
            PAIR=low is not None, COUNTS=count is not None, PRECISION=_precision(query),
            num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip


def _ready(tensor: Tensor) -> Tensor:
    """Itself; a copy only where neighbouring channels are no neighbours, which diffusers' are."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _vector(*tensors: Tensor) -> int:
    """Elements, up to 16 bytes of them, that divide the address and every stride of all tensors."""
    size = tensors[0].element_size()
    common = 16 // size
    for tensor in tensors:
        starts = (tensor.data_ptr() // size, *tensor.stride()[:3], tensor.shape[3])
        common = math.gcd(common, *starts)
    return common


def _factor(scale: float, mask: Tensor | None) -> float:
    return scale if mask is not None else scale * math.log2(math.e)


def _mask_kind(mask: Tensor | None) -> str:
    if mask is None:
        return "none"
    return "chosen" if mask.dtype == torch.bool else "added"


def _mask_strides(mask: Tensor | None, query: Tensor, columns: int) -> tuple[int, ...]:
    if mask is None:
        return (0, 0, 0, 0)
    rows, heads, positions, _ = query.shape
    return mask.expand(rows, heads, positions, columns).stride()


def _precision(query: Tensor) -> str:
    # Three products of 19-bit numbers: float32 in all but the last bits, on the tensor cores.
    return "tf32x3" if query.dtype == torch.float32 else "ieee"


@lru_cache(maxsize=16)
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return _PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device; that is the tensors' own nearly always."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)
