"""Launches of the Triton kernels: shapes, strides and addresses become their arguments.

A recorded site is called in every step with the same shapes. So what calls have in common is worked
out once and kept as a :class:`Plan`, and a later call costs the host a look into a table and the
launch. Importing this module does not import Triton.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from diffusers_rdaam.kernels import blocks
from diffusers_rdaam.kernels.blocks import Blocks, cover

# Multiprocessors where there are none, in the interpreter: those of a large GPU.
_PROCESSORS = 108
# Kinds of calls that the kernels turned out not to serve on this machine, and why.
refused: dict[tuple[object, ...], str] = {}
_MOST_PLANS = 4096
# Cells of a program that adds shares of heads.
_FOLDED = 1024

Result = TypeVar("Result")


class NotServedError(RuntimeError):
    """A kernel does not serve a call after all, and nothing was added to the planes.

    Triton compiles a kernel when it is first needed, and could not: there may be no C compiler for
    its launcher, or a GPU that is newer than its assembler. Or the kernel was checked, and
    was wrong. From then on :func:`diffusers_rdaam.kernels.fused.unserved` gives the reason.
    """


class Plan(NamedTuple):
    """The launch of all calls with the same shapes and strides.

    Args:
        grid: the numbers of programs.
        numbers: the kernel's arguments after its tensors, in order.
        options: the kernel's constants, and the compiler's options.
        shares: the shape of the partial sums, where several programs share the heads.
        fold: grid, numbers and constants of the kernel that adds the partial sums.
    """

    grid: tuple[int, ...]
    numbers: tuple[float, ...]
    options: dict[str, Any]
    shares: tuple[int, ...] | None = None
    fold: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]] | None = None


_plans: dict[tuple[object, ...], Plan] = {}


def refuse(query: Tensor, key: Tensor, why: str) -> NotServedError:
    """Note why calls of a kind are not served from now on, and return the error to raise."""
    refused[kind_of(query, key)] = why
    return NotServedError(why)


def kind_of(query: Tensor, key: Tensor) -> tuple[object, ...]:
    """What the calls that are refused together have in common: their sizes, but for the rows.

    Each size is cut into other blocks, so another size may be served. The number of rows does not
    count, because the kernel of the maps alone has the recorded rows only.
    """
    return query.device, query.dtype, query.shape[1:], key.shape[2]


def launched(launch: Callable[[], Result], query: Tensor, key: Tensor) -> Result:
    """Call ``launch`` with the tensors' device as the current one, on which Triton launches.

    A failure may pass, such as another process that writes to the same cache folder; so the launch
    is repeated once before calls like it are refused. Until a launch succeeds nothing is added to
    the planes.

    Raises:
        NotServedError: a kernel could not be compiled or launched, twice.
        torch.OutOfMemoryError: the memory is full, which says nothing about the kernel.
    """
    device = query.device
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return launched(launch, query, key)
    try:
        return launch()
    except Exception as error:
        _raise_for_memory(error)
    try:
        return launch()
    except Exception as error:
        _raise_for_memory(error)
        first, *_ = str(error).strip().splitlines() or [""]
        why = f"Triton could not launch its kernel ({type(error).__name__}: {first})"
        raise refuse(query, key, why) from error


def _raise_for_memory(error: Exception) -> None:
    """Raise torch's error of a full memory; the driver's comes as a RuntimeError of Triton."""
    if isinstance(error, torch.OutOfMemoryError):
        raise error
    if "out of memory" in str(error).lower():
        raise torch.OutOfMemoryError(str(error)) from error


def empty_output(query: Tensor) -> Tensor:
    """A tensor in the shape of the queries, laid out as ``(rows, positions, heads, channels)``."""
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
    """Launch the kernel for columns that fit one tile; without values its output is meaningless."""
    query, key = _ready(query), _ready(key)
    value = None if value is None else _ready(value)
    values = key if value is None else value
    alike = (
        query.shape, query.stride(), key.shape, key.stride(), high.shape, high.stride(),
        None if low is None else low.stride(), query.dtype, query.device, first, scale,
        count is None, cut,
        None if value is None else value.stride(), _mask_facts(mask),
        (query.data_ptr() | key.data_ptr() | values.data_ptr()) & 15,
    )  # fmt: skip
    plan = _plans.get(alike)
    if plan is None:
        arguments = (query, key, value, high, low, first, mask, scale, count, cut)
        plan = _keep(alike, _text_plan(*arguments))
    output = query if value is None else empty_output(query)
    other = high if low is None else low
    counted = high if count is None else count
    kernels = _kernels("fused_text")

    def launch() -> None:
        partial = high
        if plan.shares is not None:
            partial = torch.empty(plan.shares, dtype=torch.float32, device=query.device)
        kernels.attend_to_text[plan.grid](
            query, key, values, output, high, other, partial, counted,
            query if mask is None else mask, *plan.numbers, **plan.options,
        )  # fmt: skip
        if plan.fold is not None:
            grid, numbers, options = plan.fold
            kernels.fold_shares[grid](partial, high, other, counted, *numbers, **options)

    launched(launch, query, key)
    return output


def _text_plan(
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
) -> Plan:
    values = key if value is None else value
    rows, heads, positions, channels = query.shape
    columns, images, per_head = key.shape[2], high.shape[0], high.ndim == 4
    # Without values only the recorded rows have programs.
    rows = images if value is None else rows
    cut = cut or blocks.for_text(
        rows, positions, columns, heads, channels, query.element_size(),
        _processors(query.device), attends=value is not None, per_head=per_head,
    )  # fmt: skip
    meet = cut.splits > 1 and not per_head
    width = cover(columns)
    numbers = (
        positions, columns, heads, heads // key.shape[1], first, first + images,
        _factor(scale, mask), 1.0 / heads,
        *query.stride()[:3], *key.stride()[:3], *values.stride()[:3], *_plane_strides(high, low),
        *_mask_strides(mask, query, columns),
    )  # fmt: skip
    options = {
        **_sizes(query, mask, cut), "COLUMNS_MAIN": width.main, "COLUMNS_REST": width.rest,
        "SPLITS": cut.splits, "VECTOR": _vector(query, key, values),
        "ATTENDS": value is not None, "PER_HEAD": per_head, "PAIR": low is not None,
        "COUNTS": count is not None and not meet,
    }  # fmt: skip
    grid = (-(-positions // cut.positions), rows * cut.splits)
    if not meet:
        return Plan(grid, numbers, options)
    fold = (
        (-(-columns * positions // _FOLDED), images),
        (positions, columns, high.stride(0), high.stride(1)),
        {
            "SPLITS": cut.splits, "PAIR": low is not None, "COUNTS": count is not None,
            "BLOCK": _FOLDED,
        },
    )  # fmt: skip
    return Plan(grid, numbers, options, (cut.splits, images, columns, positions), fold)


def launch_forward(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Launch the first of two passes: the output, and the log-sum-exp of every position.

    Returns:
        The output, which is meaningless without values; and ``(rows, heads, positions)``.
    """
    query, key = _ready(query), _ready(key)
    value = None if value is None else _ready(value)
    values = key if value is None else value
    alike = (
        query.shape, query.stride(), key.shape, key.stride(), query.dtype, query.device, scale,
        None if value is None else value.stride(), _mask_facts(mask),
        (query.data_ptr() | key.data_ptr() | values.data_ptr()) & 15,
    )  # fmt: skip
    plan = _plans.get(alike) or _keep(alike, _forward_plan(query, key, value, mask, scale))
    output = query if value is None else empty_output(query)
    lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
    kernels = _kernels("fused_long")

    def launch() -> None:
        kernels.attend_and_sum[plan.grid](
            query, key, values, output, lse, query if mask is None else mask,
            *plan.numbers, **plan.options,
        )  # fmt: skip

    launched(launch, query, key)
    return output, lse


def _forward_plan(
    query: Tensor, key: Tensor, value: Tensor | None, mask: Tensor | None, scale: float
) -> Plan:
    values = key if value is None else value
    rows, heads, positions, channels = query.shape
    columns = key.shape[2]
    cut = blocks.for_columns(columns, channels, query.element_size())
    numbers = (
        positions, columns, heads, heads // key.shape[1], _factor(scale, mask),
        *query.stride()[:3], *key.stride()[:3], *values.stride()[:3],
        *_mask_strides(mask, query, columns),
    )  # fmt: skip
    options = {
        **_sizes(query, mask, cut), "TILE": cut.columns, "VECTOR": _vector(query, key, values),
        "ATTENDS": value is not None,
    }  # fmt: skip
    return Plan((-(-positions // cut.positions), heads, rows), numbers, options)


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
    """Launch the second of two passes: the maps, from the log-sum-exp of every position."""
    query, key = _ready(query), _ready(key)
    alike = (
        query.shape, query.stride(), key.shape, key.stride(), lse.stride(), high.shape,
        high.stride(), None if low is None else low.stride(), query.dtype, query.device, scale,
        count is None, cut, _mask_facts(mask), (query.data_ptr() | key.data_ptr()) & 15,
    )  # fmt: skip
    plan = _plans.get(alike)
    if plan is None:
        arguments = (query, key, lse, high, low, mask, scale, count, cut)
        plan = _keep(alike, _columns_plan(*arguments))
    kernels = _kernels("fused_long")

    def launch() -> None:
        kernels.add_columns[plan.grid](
            query, key, lse, high, high if low is None else low,
            high if count is None else count, query if mask is None else mask,
            *plan.numbers, **plan.options,
        )  # fmt: skip

    launched(launch, query, key)


def _columns_plan(
    query: Tensor,
    key: Tensor,
    lse: Tensor,
    high: Tensor,
    low: Tensor | None,
    mask: Tensor | None,
    scale: float,
    count: Tensor | None,
    cut: Blocks | None,
) -> Plan:
    rows, heads, positions, channels = query.shape
    columns, per_head = key.shape[2], high.ndim == 4
    cut = cut or blocks.for_columns(columns, channels, query.element_size())
    grid = (
        -(-positions // cut.positions),
        -(-columns // cut.columns),
        rows * heads if per_head else rows,
    )
    numbers = (
        positions, columns, heads, heads // key.shape[1], _factor(scale, mask),
        1.0 if per_head else 1.0 / heads,
        *query.stride()[:3], *key.stride()[:3], *lse.stride(), *_plane_strides(high, low),
        *_mask_strides(mask, query, columns),
    )  # fmt: skip
    options = {
        **_sizes(query, mask, cut), "TILE": cut.columns, "VECTOR": _vector(query, key),
        "PER_HEAD": per_head, "PAIR": low is not None, "COUNTS": count is not None,
    }  # fmt: skip
    return Plan(grid, numbers, options)


@lru_cache(maxsize=4)
def _kernels(name: str) -> ModuleType:
    """A module of kernels by its name; this imports Triton."""
    return importlib.import_module(f"diffusers_rdaam.kernels.{name}")


def _keep(alike: tuple[object, ...], plan: Plan) -> Plan:
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    _plans[alike] = plan
    return plan


def _sizes(query: Tensor, mask: Tensor | None, cut: Blocks) -> dict[str, Any]:
    """The constants that all kernels of attention take."""
    depth = cover(query.shape[3])
    return {
        "DIM": query.shape[3], "DIM_MAIN": depth.main, "DIM_REST": depth.rest,
        "BLOCK": cut.positions, "MASK": _mask_kind(mask), "PRECISION": _precision(query),
        "num_warps": cut.warps, "num_stages": cut.stages,
    }  # fmt: skip


def _plane_strides(high: Tensor, low: Tensor | None) -> tuple[int, int, int]:
    """The planes' strides of rows, heads and columns; 0 for heads where they hold the mean.

    Raises:
        NotServedError: the positions are not contiguous, or the pair has different strides.
    """
    if high.stride(-1) != 1 or (low is not None and low.stride() != high.stride()):
        raise NotServedError(
            "Triton's kernels add to planes with contiguous positions, both with the same strides"
        )
    return high.stride(0), high.stride(1) if high.ndim == 4 else 0, high.stride(-2)


def _mask_facts(mask: Tensor | None) -> object:
    return None if mask is None else (mask.shape, mask.stride(), mask.dtype)


def _ready(tensor: Tensor) -> Tensor:
    """The tensor, or a copy if its channels are not contiguous; those of diffusers are."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _vector(*tensors: Tensor) -> int:
    """The largest number of elements, up to 16 bytes, that divides all addresses and strides."""
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
