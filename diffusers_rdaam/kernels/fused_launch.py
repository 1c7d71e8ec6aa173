"""Launches of the Triton kernels: shapes, strides and addresses become their arguments.

Importing this module does not import Triton.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor

from diffusers_rdaam.kernels import blocks
from diffusers_rdaam.kernels.blocks import Blocks, cover

# Where nothing is launched, in the interpreter: what a large GPU has.
_PROCESSORS = 108
# What the kernels turned out not to serve here, and why.
refused: dict[tuple[object, ...], str] = {}


class NotServedError(RuntimeError):
    """A kernel does not serve a call after all, and nothing was added to the planes.

    Triton compiles a kernel when it is first needed, and could not: there may be no C compiler for
    its launcher, or a GPU that is newer than its assembler. Or the kernel was tried, and was wrong.
    :func:`diffusers_rdaam.kernels.fused.unserved` tells from then on.
    """


def refuse(query: Tensor, key: Tensor, why: str) -> NotServedError:
    """Remember why calls of a kind are not served; what to raise."""
    refused[kind_of(query, key)] = why
    return NotServedError(why)


def kind_of(query: Tensor, key: Tensor) -> tuple[object, ...]:
    """What the kernels that a call takes are compiled for, as far as a refusal goes."""
    return query.device, query.dtype, query.shape[3], key.shape[2]


@contextmanager
def launching(query: Tensor, key: Tensor) -> Iterator[None]:
    """On the tensors' device, where Triton launches on the current one.

    Raises:
        NotServedError: a kernel could not be compiled or launched.
    """
    elsewhere = query.device.type == "cuda" and query.device.index != torch.cuda.current_device()
    try:
        with torch.cuda.device(query.device) if elsewhere else nullcontext():
            yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        first, *_ = str(error).strip().splitlines() or [""]
        why = f"Triton could not launch its kernel ({type(error).__name__}: {first})"
        raise refuse(query, key, why) from error


def empty_output(query: Tensor) -> Tensor:
    """Shaped as the queries, laid out as ``(rows, positions, heads, channels)``."""
    rows, heads, positions, channels = query.shape
    return query.new_empty(rows, positions, heads, channels).transpose(1, 2)


def launch_text(
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
    """The kernel whose columns fit one tile; without a value its output means nothing."""
    from diffusers_rdaam.kernels.fused_text import attend_to_text, fold_shares

    query, key = _ready(query), _ready(key)
    values = key if value is None else _ready(value)
    rows, heads, positions, channels = query.shape
    columns, images, apart = key.shape[2], high.shape[0], high.ndim == 4
    cut = cut or blocks.for_text(
        rows, positions, columns, heads, channels, query.element_size(),
        _processors(query.device), attends=value is not None,
    )  # fmt: skip
    output = query if value is None else empty_output(query)
    meet = cut.splits > 1 and not apart
    partial = high
    if meet:
        shape = (cut.splits, images, columns, positions)
        partial = torch.empty(shape, dtype=torch.float32, device=query.device)
    depth, width = cover(channels), cover(columns)
    planes = (high.stride(0), high.stride(1) if apart else 0, high.stride(-2))
    grid = (-(-positions // cut.positions), rows * cut.splits)
    with launching(query, key):
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
            MASK=_mask_kind(mask), APART=apart, PAIR=low is not None,
            COUNTS=count is not None and not meet,
            PRECISION=_precision(query), num_warps=cut.warps, num_stages=cut.stages,
        )  # fmt: skip
        if meet:
            cells = 1024
            fold_shares[(-(-columns * positions // cells), images)](
                partial, high, high if low is None else low, high if count is None else count,
                positions, columns, high.stride(0), high.stride(1),
                SPLITS=cut.splits, PAIR=low is not None, COUNTS=count is not None, BLOCK=cells,
            )  # fmt: skip
    return output


def launch_forward(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """First pass: output, meaningless without a value, and lse ``(rows, heads, positions)``."""
    from diffusers_rdaam.kernels.fused_long import attend_and_sum

    query, key = _ready(query), _ready(key)
    values = key if value is None else _ready(value)
    rows, heads, positions, channels = query.shape
    output = query if value is None else empty_output(query)
    lse = torch.empty(rows, heads, positions, dtype=torch.float32, device=query.device)
    depth = cover(channels)
    cut = blocks.for_columns(key.shape[2], channels, query.element_size())
    with launching(query, key):
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


def launch_columns(
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
    """Second pass: the maps of columns whose positions' log-sum-exp is known."""
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
    with launching(query, key):
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
